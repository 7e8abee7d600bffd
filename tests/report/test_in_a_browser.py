"""The reports in a real browser: no complaint, no request, no sideways scrolling, and the script does what it promises."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from headless_browser import Browser
from softscribe.report import write_run_report, write_seeds_report

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert EXECUTABLE is not None
    browser = Browser(EXECUTABLE, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_a_report_is_quiet_and_fits_its_window(browser: Browser, run: Path, width: int) -> None:
    page = browser.open(write_run_report(run).as_uri(), width)
    assert page.messages == []
    assert page.requests == []
    assert page.overflow_pixels == 0
    for heading in ("Alarms", "Curves", "Health", "Alignments over time", "Measures", "Config", "Environment"):
        assert f"{heading}</h" in page.dom
    with Image.open(io.BytesIO(page.picture)) as picture:
        assert picture.width == width
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50


@pytest.mark.parametrize("width", [1280, 400])
def test_the_report_of_seeds_is_quiet_and_fits_its_window(browser: Browser, seeds: Path, width: int) -> None:
    page = browser.open(write_seeds_report(seeds).as_uri(), width)
    assert (page.messages, page.requests, page.overflow_pixels) == ([], [], 0)
    assert "seed-2/report.html" in page.dom


def test_long_words_do_not_widen_the_page(browser: Browser, run: Path) -> None:
    word = "x" * 300
    (run / "alarms.jsonl").write_text(json.dumps({"step": 1} | dict.fromkeys(("name", "evidence", "remedy", "action"), word)) + "\n")
    (run / "metrics.csv").write_text(f"step,{word},health/{word}\n0,1,1\n9,2,2\n")
    (run / "config.yaml").write_text(f"name: {word}\n{word}: {word}\n")
    (run / "environment.json").write_text(json.dumps({word: word}))
    script = "document.querySelectorAll('details').forEach((part) => part.open = true)"
    assert browser.open(write_run_report(run).as_uri(), 400, script=f"void {script}").overflow_pixels == 0


def test_a_script_from_a_file_would_not_run_even_unescaped(browser: Browser, run: Path) -> None:
    """The second wall behind escaping: the page's own policy."""
    path = write_run_report(run)
    path.write_text(
        path.read_text().replace("<main>", "<main><script>document.title = 'taken'</script><img src='https://example.org/x.png'>")
    )
    page = browser.open(path.as_uri(), 800, script="document.title")
    assert page.answer == "demo, seed 0"
    assert len(page.messages) >= 2, "the browser says what it refused"


def test_dark_and_light_differ_and_paper_is_light(browser: Browser, run: Path) -> None:
    address, color = write_run_report(run).as_uri(), "getComputedStyle(document.body).backgroundColor"
    light, dark = (browser.open(address, 800, scheme=scheme, script=color).answer for scheme in ("light", "dark"))
    assert light == "rgb(255, 255, 255)"
    assert dark != light
    assert browser.open(address, 800, scheme="dark", script=color, print_media=True).answer == light


def test_pointing_at_a_chart_reads_off_every_chart(browser: Browser, run: Path) -> None:
    script = """
    (() => {
      const svg = document.querySelector(".chart svg"), box = svg.getBoundingClientRect();
      const texts = () => [...document.querySelectorAll(".chart output")].map((output) => output.textContent);
      const before = texts();
      svg.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + box.width / 2, clientY: box.top + 20}));
      const during = texts();
      svg.dispatchEvent(new PointerEvent("pointerleave"));
      return {before, during, after: texts()};
    })()
    """
    answer = browser.open(write_run_report(run).as_uri(), 1280, script=script).answer
    assert answer["before"] == answer["after"]
    assert len(answer["during"]) >= 6
    assert all(text.endswith("at step 30") for text in answer["during"]), "in the middle of 0 to 60, the nearest point is 30"


def test_a_picture_enlarges_and_arrows_go_through_its_steps(browser: Browser, run: Path) -> None:
    script = """
    (() => {
      const dialog = document.querySelector("dialog"), title = dialog.querySelector("output");
      document.querySelector(".pictures button").click();
      const seen = [dialog.open, title.textContent];
      dialog.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
      return [...seen, title.textContent];
    })()
    """
    is_open, first, second = browser.open(write_run_report(run).as_uri(), 1280, script=script).answer
    assert is_open
    assert first.startswith("bwv253, step 10")
    assert second.startswith("bwv253, step 30")
