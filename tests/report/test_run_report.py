"""report.html: everything in the folder appears, nothing in it acts, what is missing is said, and the page stays within bounds."""

import csv
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from softscribe.errors import InputError
from softscribe.report import pictures as pictures_module
from softscribe.report import write_run_report, write_seeds_report
from softscribe.report.chart import make_chart
from softscribe.report.run_report import MOST_ALARMS, MOST_CURVES

LARGEST_REPORT_BYTES = 12_000_000
OWN_TAGS = {
    *("html", "head", "meta", "title", "link", "style", "script", "body", "main", "header", "section", "h1", "h2", "h3", "p", "a"),
    *("dl", "div", "dt", "dd", "ul", "li", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "strong"),
    *("span", "svg", "line", "text", "path", "circle", "output", "img", "dialog", "form", "button", "details", "summary", "pre"),
}


class Parsed(HTMLParser):
    """The tags, attributes and text of a page; script and style apart."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.own: dict[str, list[str]] = {"script": [], "style": []}
        self._inside: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = self._inside[-1] if self._inside else ""
        self.own.get(inside, self.words).append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_harmless(page: Parsed) -> None:
    """The page consists of the templates' tags, has one script, and names no address outside itself."""
    assert {tag for tag, _ in page.tags} <= OWN_TAGS
    assert len(page.own["script"]) == len(page.of("script")) == 1
    assert len(page.of("style")) == 1
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            if name in attributes:
                assert re.match(r"data:(,|image/webp;base64,)|seed-\d+/report\.html$", attributes[name]), (tag, attributes[name][:80])
    assert not re.search(r"url\(|@import|https?:", "".join(page.own["style"]))
    assert not re.search(r"fetch|XMLHttpRequest|import\b|https?:|eval|innerHTML", "".join(page.own["script"]))
    (policy,) = [attributes["content"] for attributes in page.of("meta") if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_everything_in_the_folder_appears(run: Path) -> None:
    page = Parsed(write_run_report(run))
    check_harmless(page)
    with (run / "metrics.csv").open() as file:
        columns = csv.DictReader(file).fieldnames or []
    for column in columns[1:]:
        assert column in page.text
    for line in (run / "alarms.jsonl").read_text().splitlines():
        for value in json.loads(line).values():
            assert str(value) in page.text
    for text in ("0.712", "0.677", "26 ms", "94% within 100 ms", "12 ms late", "bwv256", "validation, threshold 0.4"):
        assert text in page.text
    for environment_or_config in ("gamma:", "demo-small", "mcnn", "torch", "python", "finished"):
        assert environment_or_config in page.text
    for heading in ("Alarms", "Curves", "Health", "Alignments over time", "Measures", "Config", "Environment"):
        assert heading in page.words
    assert "What is missing" not in page.text


def test_the_verdict_comes_before_curves_pictures_and_config(run: Path) -> None:
    text = Parsed(write_run_report(run)).text
    order = ("Frame F-measure", "let gamma end lower", "Over optimizer steps", "Alignments over time", "gamma:")
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_health_charts_show_what_is_healthy(run: Path) -> None:
    """Each limit of a number is a line in its chart, at its value, however far the curve is from it; others have none."""
    (run / "metrics.csv").write_text("step,health/time_shift_frames,health/entry_spread_share,health/entry_spread_frames\n9,6,1,1\n")
    page = Parsed(write_run_report(run))
    shift, spread, other = (
        next(chart["aria-label"] for chart in page.of("svg") if chart["aria-label"].startswith(name))
        for name in ("time shift frames", "entry spread share", "entry spread frames")
    )
    assert "Healthy up to 3.00 after 25% of the training. Healthy from -3.00 after 25% of the training." in shift
    assert "Healthy up to 0.30 after 25% of the training." in spread
    assert "Healthy" not in other
    heights = [float(line["y1"]) for line in page.of("line") if line.get("class") == "limit"]
    assert len(heights) == 3
    place = make_chart("", {"": ([1], [6.0])}, 1, limits=[(3.0, ""), (-3.0, "")])
    (_, point), (above, below) = place.lines[0].dots[0], [float(y) for y, _ in place.limits]
    assert (below - above) / (above - float(point)) == pytest.approx(2.0, abs=0.01), "from 6 to 3 is half as far as from 3 to -3"


def test_lines_that_are_not_there_are_not_spoken_of(run: Path) -> None:
    for number, spoken_of in (("entry_spread_frames", False), ("time_shift_frames", True)):
        (run / "metrics.csv").write_text(f"step,health/{number}\n9,6\n")
        assert ("Dotted lines" in write_run_report(run).read_text()) == spoken_of


def test_a_page_is_accessible(run: Path) -> None:
    page = Parsed(write_run_report(run))
    assert page.of("html")[0]["lang"] == "en"
    images = [attributes for attributes in page.of("img") if "src" in attributes]
    assert images
    assert all(re.search(r"bwv25[34], step \d+", attributes["alt"]) for attributes in images)
    charts = page.of("svg")
    assert charts
    assert all(attributes["role"] == "img" and "at last (step 60)" in attributes["aria-label"] for attributes in charts)
    assert len(page.of("table")) == len(page.of("caption"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), "no level is skipped"


def test_first_and_last_pictures_of_a_piece_stand_side_by_side(run: Path) -> None:
    page = Parsed(write_run_report(run))
    alts = [attributes["alt"] for attributes in page.of("img") if attributes.get("src")]
    for piece in ("bwv253", "bwv254"):
        steps = [int(re.findall(r"step (\d+)", alt)[0]) for alt in alts if alt.startswith(piece)]
        assert (steps[0], steps[-1], len(steps)) == (10, 60, pictures_module.MOST_STEPS)
        assert steps == sorted(steps)


PARTS = {
    "config.yaml": "config.yaml: missing",
    "metrics.csv": "metrics.csv: missing",
    "metrics.json": "metrics.json: missing",
    "model": "card.json: missing",
    "environment.json": "environment.json: missing",
    "plots": "plots/: no pictures",
}


@pytest.mark.parametrize("part", PARTS)
def test_what_is_missing_is_said(run: Path, part: str) -> None:
    path = run / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = Parsed(write_run_report(run))
    check_harmless(page)
    assert "What is missing" in page.text
    assert PARTS[part] in page.text


def test_an_empty_folder_gives_a_report_that_says_what_is_missing(tmp_path: Path) -> None:
    page = Parsed(write_run_report(tmp_path))
    check_harmless(page)
    assert all(sentence in page.text for sentence in PARTS.values())
    for headline in ("not measured", "not logged", "not watched"):
        assert headline in page.text


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"[" * 100_000, b"- 1\n", b"null", b"step,a\nx,1\n", b"step,a\n1,b\n", b"step,a\n1,2,3\n"]
)
@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "metrics.json", "model/card.json", "environment.json", "alarms.jsonl"])
def test_a_broken_file_breaks_nothing(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)
    check_harmless(Parsed(write_run_report(run)))


def test_rows_in_no_order_without_a_config_break_nothing(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,health/target_gini\n9,0.1\n4,0.1\n")
    assert "Alarms none in 2 observations" in Parsed(write_run_report(tmp_path)).text


def test_without_alarms_the_verdict_tells_watched_from_unwatched(run: Path) -> None:
    (run / "alarms.jsonl").unlink()
    numbers = ("target_gini", "neutral_distance_ratio", "entry_spread_share", "time_shift_frames")
    header = ",".join(f"health/{number}" for number in numbers)
    (run / "metrics.csv").write_text(f"step,{header}\n29,0.1,1,0.1,0\n59,0.1,1,0.1,0\n")
    assert "Alarms none in 2 observations, 60 steps" in Parsed(write_run_report(run)).text
    (run / "metrics.csv").write_text(f"step,{header}\n29,0.1,nan,0.1,nan\n59,0.1,nan,0.1,nan\n")
    blind = "Alarms none in 2 observations, in which diagonalization, shift could not sound"
    assert blind in Parsed(write_run_report(run)).text, "silence says nothing there"
    (run / "metrics.csv").write_text(f"step,{header}\n4,0.1,1,0.1,0\n59,0.1,1,0.1,0\n")
    late = "Alarms none in 2 observations, in which blur, collapse, diagonalization, shift could not sound"
    assert late in Parsed(write_run_report(run)).text, "asked for once"
    (run / "metrics.csv").write_text(f"step,{header}\n4,0.1,1,0.1,0\n9,0.1,1,0.1,0\n")
    assert late in Parsed(write_run_report(run)).text, "of a run that ended before it was asked for"
    (run / "metrics.csv").write_text("step,health/target_gini\n59,0.9\n")
    assert "Alarms none Too few observations for one: 1." in Parsed(write_run_report(run)).text
    (run / "metrics.csv").write_text("step,train/loss\n59,1.0\n")
    assert "Alarms not watched" in Parsed(write_run_report(run)).text


def test_a_run_that_stopped_early_says_so(run: Path) -> None:
    assert "finished, logged up to 60 of 60 steps" in Parsed(write_run_report(run)).text
    (run / "metrics.csv").write_text("step,train/loss\n29,1.0\n")
    assert "ended before its last step, logged up to 30 of 60 steps" in Parsed(write_run_report(run)).text
    shutil.rmtree(run / "model")
    assert "not finished, logged up to 30 of 60 steps" in Parsed(write_run_report(run)).text


HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</style></script><iframe src=https://example.org>",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!--",
    "‮\x00\x1b[31m",
]


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_texts_are_shown_not_obeyed(run: Path, word: str) -> None:
    quoted = json.dumps(word)
    (run / "config.yaml").write_text(f"name: {quoted}\nseed: {quoted}\nloss: {{name: {quoted}}}\ntrainer: {{steps: {quoted}}}\n")
    with (run / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["step", word, f"health/{word}"], [0, 1.0, 2.0], [9, 1.0, 2.0]])
    (run / "alarms.jsonl").write_text(json.dumps({"step": 1} | dict.fromkeys(("name", "evidence", "remedy", "action"), word)) + "\n")
    (run / "metrics.json").write_text(
        json.dumps({"split": word, word: word, "frame_f_measure": word, "files": [{"file": word, word: 1.0}]})
    )
    (run / "model" / "card.json").write_text(json.dumps({word: {word: word}}))
    (run / "environment.json").write_text(json.dumps({word: word}))
    if "/" not in word and "\x00" not in word:
        (run / "plots" / "step-000010" / "bwv253.png").rename(run / "plots" / "step-000010" / f"{word}.png")
    page = Parsed(write_run_report(run))
    check_harmless(page)
    if word.isprintable():
        assert page.text.count(word) >= 10


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text(min_size=1, max_size=40).filter(lambda name: name.strip() and name != "step"), min_size=1, max_size=6, unique=True
    ),
    values=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40),
    alarms=st.lists(st.tuples(st.integers(), st.text(max_size=60), st.text(max_size=60)), max_size=5),
)
def test_any_curves_and_alarms_appear(tmp_path: Path, names: list[str], values: list[float], alarms: list[tuple[int, str, str]]) -> None:
    with (tmp_path / "metrics.csv").open("w", newline="", encoding="utf-8", errors="replace") as file:
        csv.writer(file).writerows([["step", *names], *([step, *[repr(value)] * len(names)] for step, value in enumerate(values))])
    lines = [{"step": step, "name": name, "evidence": text, "remedy": "", "action": ""} for step, name, text in alarms]
    (tmp_path / "alarms.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = Parsed(write_run_report(tmp_path))
    check_harmless(page)
    assert page.text.count("at last") == 0, "summaries are for readers of the charts alone"
    for step, _, _ in alarms:
        assert str(step) in page.text
    assert "nan" not in "".join(attributes.get("d", "") + attributes.get("cy", "") for _, attributes in page.tags)
    assert len(page.of("svg")) >= 1


def test_a_huge_run_gives_a_report_within_bounds_that_says_what_it_leaves_out(run: Path) -> None:
    rng = np.random.default_rng(0)
    steps = 4000
    names = [f"health/number_{number}" for number in range(MOST_CURVES + 20)]
    with (run / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["step", *names], *([step, *rng.random(len(names)).round(6).tolist()] for step in range(0, steps, 10))])
    line = json.dumps({"step": 7, "name": "blur" * 5000, "evidence": "x" * 100_000, "remedy": "y", "action": "z"}) + "\n"
    (run / "alarms.jsonl").write_text(line * (MOST_ALARMS + 30))
    (run / "config.yaml").write_text("name: demo\nnote: " + "long " * 200_000)
    noise = rng.integers(0, 256, (900, 700, 3), dtype=np.uint8)
    for piece in range(20):
        for step in range(10, 200, 10):
            path = run / "plots" / f"step-{step:06d}" / f"piece{piece}.png"
            path.parent.mkdir(exist_ok=True)
            if piece or step > 10:
                path.hardlink_to(run / "plots" / "step-000010" / "piece0.png")
            else:
                Image.fromarray(noise).save(path)
    page = write_run_report(run)
    assert page.stat().st_size < LARGEST_REPORT_BYTES
    text = Parsed(page).text
    assert "and 30 more in alarms.jsonl" in text
    assert "and 20 more columns in metrics.csv" in text
    assert f"{pictures_module.MOST_PIECES} of 22 pieces" in text


def test_pictures_that_are_none_are_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "plots" / "step-000010" / "bwv253.png").write_bytes(b"<svg onload='alert(1)'/>")
    assert "not a picture" in Parsed(write_run_report(run)).text
    monkeypatch.setattr(pictures_module, "MOST_PIXELS", 100)
    assert "too large" in Parsed(write_run_report(run)).text
    monkeypatch.undo()
    monkeypatch.setattr(pictures_module, "MOST_BYTES", 300)
    assert "would grow too large" in Parsed(write_run_report(run)).text


def test_the_same_folder_gives_the_same_bytes(run: Path) -> None:
    first = write_run_report(run).read_bytes()
    assert write_run_report(run).read_bytes() == first


def test_a_report_that_cannot_be_written_is_one_sentence(run: Path) -> None:
    (run / "report.html").mkdir()
    with pytest.raises(InputError, match=r"report\.html: cannot be written"):
        write_run_report(run)


def test_seeds_are_compared_and_linked(seeds: Path) -> None:
    page = Parsed(write_seeds_report(seeds))
    check_harmless(page)
    assert [attributes["href"] for attributes in page.of("a")] == [f"seed-{seed}/report.html" for seed in range(3)]
    for text in ("demo, 3 seeds", "0.712", "± 0.005", "26 ms", "Alarms 6", "validation: cost"):
        assert text in page.text
    (seeds / "seed-1" / "metrics.json").unlink()
    assert "seed-1: metrics.json: missing" in Parsed(write_seeds_report(seeds)).text


@pytest.mark.parametrize("content", ["", "[]", '{"seeds": 3}', '{"seeds": ["../..", true, 0]}', '{"seeds": [0], "a": {"mean": "<b>"}}'])
def test_a_broken_summary_of_seeds_breaks_nothing(seeds: Path, content: str) -> None:
    (seeds / "seeds.json").write_text(content)
    check_harmless(Parsed(write_seeds_report(seeds)))
