"""Small good files of every kind that softscribe reads, made afresh: what the damage is done to."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import mido
import numpy as np
import soundfile
import torch
import yaml

from softscribe.corpora import FeatureStore, Recording, Segment
from softscribe.corpora.manifest import COLUMNS
from softscribe.models import create_model, save_model
from softscribe.scores import PerformedNotes, Score
from softscribe.sound import HcqtSettings
from softscribe.training import TrainSettings

RATE = 8000
MODEL = {"name": "mcnn", "channels": [1, 1, 1, 1]}


def midi() -> bytes:
    file = mido.MidiFile(ticks_per_beat=96)
    events = [mido.MetaMessage("set_tempo", tempo=500_000), mido.MetaMessage("time_signature", numerator=3, denominator=4)]
    for pitch in (60, 64, 67):
        events += [mido.Message("note_on", note=pitch, velocity=64, time=10), mido.Message("note_off", note=pitch, time=86)]
    file.tracks += [mido.MidiTrack(events), mido.MidiTrack([mido.Message("program_change", program=40), *events[2:6]])]
    data = io.BytesIO()
    file.save(file=data)
    return data.getvalue()


def musicxml() -> bytes:
    def note(step: str, duration: int, more: str = "") -> str:
        return (
            f"<note><pitch><step>{step}</step><alter>0</alter><octave>4</octave></pitch><duration>{duration}</duration>\n"
            f"<voice>1</voice><type>quarter</type><staff>1</staff>{more}</note>\n"
        )

    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 3.1 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">
<score-partwise version="3.1"><part-list><score-part id="P1"><part-name>P</part-name></score-part></part-list><part id="P1">
<measure number="1"><attributes><divisions>2</divisions><key><fifths>1</fifths></key><time><beats>4</beats><beat-type>4</beat-type></time>
<staves>2</staves><clef number="1"><sign>G</sign><line>2</line></clef>
<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose></attributes>
<barline location="left"><repeat direction="forward"/></barline>
{note("C", 2)}{note("E", 4, '<tie type="start"/>')}{note("G", 2, "<dot/>")}<backup><duration>4</duration></backup>{note("D", 2)}
<forward><duration>2</duration></forward></measure>
<measure number="2">{note("E", 4, '<tie type="stop"/>')}<note><rest/><duration>2</duration></note>
<note><grace/><pitch><step>A</step><octave>5</octave></pitch></note><harmony><root><root-step>G</root-step></root><kind>major</kind></harmony>
<note><pitch><step>B</step><octave>3</octave></pitch><duration>2</duration><time-modification><actual-notes>3</actual-notes>
<normal-notes>2</normal-notes></time-modification></note>
<barline location="right"><ending number="1" type="stop"/><repeat direction="backward" times="2"/></barline></measure></part>
</score-partwise>
""".encode()


def mxl() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/container.xml", '<container><rootfiles><rootfile full-path="score.xml"/></rootfiles></container>')
        archive.writestr("score.xml", musicxml())
    return data.getvalue()


MEI = b"""<?xml version="1.0" encoding="UTF-8"?><mei xmlns="http://www.music-encoding.org/ns/mei" meiversion="3.0.0">
<music><body><mdiv><score><scoreDef meter.count="4" meter.unit="4" key.sig="1s"><staffGrp>
<staffDef n="1" lines="5" clef.shape="G" clef.line="2"/></staffGrp></scoreDef><section><measure n="1" right="rptend">
<staff n="1"><layer n="1"><beam><note pname="c" oct="4" dur="8" accid="s"/><note pname="e" oct="4" dur="8" dots="1"/></beam>
<tuplet num="3" numbase="2"><note pname="d" oct="4" dur="4" tie="i"/><note pname="a" oct="4" dur="4"/></tuplet>
<chord dur="2"><note pname="g" oct="4"/><note pname="b" oct="5"/></chord><mRest/><multiRest num="2"/></layer></staff></measure></section>
</score></mdiv></body></music></mei>
"""

KERN = b"""**kern\t**kern
*clefF4\t*clefG2
*k[f#]\t*k[f#]
*M4/4\t*M4/4
*>[A,A]\t*>[A,A]
*>A\t*>A
=1\t=1
4.C\t[2e 2g
8D\t.
2E\t2e] 2a
=:|!\t=:|!
*^\t*
4GG\t8BB\t4ryy
.\t8r\t.
*v\t*v\t*
4%3c\tqqf
.\t12f#
==\t==
*-\t*-
"""

SCORE_CSV = b"onset_quarters,duration_quarters,pitch,part\n0.0,1.5,60,0\n1.5,0.5,64,1\n2,2,67,1\n4.0,0.0,,\n"
PERFORMED_CSV = b"onset_seconds,offset_seconds,pitch,score_onset_quarters\n0.5,1.25,60,0\n1.25,2,64,1.5\n2,2.5,67,\n"
ALARMS = b"""{"step": 40, "name": "collapse", "evidence": "largest share .6, limit .5", "remedy": "loss=sdtw", "action": ""}
{"step": 90, "name": "blur", "evidence": "spread 80 frames", "remedy": "loss.gamma=1", "action": "relief 1 of 3"}
"""
CURVES = b"step,train/loss,validation/cost\n9,14.5,\n19,12.25,\n24,,1.5e1\n"
SEEDS = b'{"seeds": [0, 1, 20], "frame_f_measure": {"mean": 0.5, "deviation": 0.01}}'
MUSICNET_CSV = (
    b"start_time,end_time,instrument,note,start_beat,end_beat,note_value\n44100,88200,1,60,0.0,1.5,Quarter\n88200,99000,2,64,1.5,1,Half\n"
)
MANIFEST = (
    ",".join(COLUMNS).encode()
    + b"""
a.wav,a.mid,0,10.5,0,16,written,-2,t.csv,train
a.wav,a.mid,10.5,20,16,32.25,written,-2,t.csv,train
"b, c.flac",s/b.mxl,,,,,,,,test
"""
)


def sound(suffix: str, seconds: float = 1.3) -> bytes:
    """A tone in a file of that kind."""
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE)) / RATE)
    data = io.BytesIO()
    container, codec = ("OGG", "OPUS") if suffix == "OPUS" else (suffix, None)
    soundfile.write(data, np.stack([samples, samples], 1), RATE, format=container, subtype=codec)
    return data.getvalue()


def save_small_model(folder: Path) -> dict:
    """Write a model folder; return its card."""
    torch.manual_seed(0)
    card = {
        "model": MODEL,
        "features": HcqtSettings().to_dict(),
        "outputs": 12,
        "threshold": 0.4,
        "time_shift_frames": 0.5,
        "data": {"corpus": "demo", "corpus_fingerprint": "0123456789abcdef"},
    }
    save_model(folder, create_model(MODEL, in_channels=6, outputs=12), card)
    return card


def checkpoint() -> bytes:
    weights = {"model.a.weight": torch.arange(12.0).reshape(3, 4), "model.a.bias": torch.ones(3, dtype=torch.bfloat16)}
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(3, 4)}}
    data = io.BytesIO()
    torch.save(
        {
            "state_dict": weights,
            "global_step": 3,
            "optimizer_states": [{"state": moments, "param_groups": [{"lr": 1e-3, "params": [0]}]}],
            "loops": {"fit_loop": {"done": True, "name": "x"}},
        },
        data,
    )
    return data.getvalue()


def run_config() -> dict:
    """What `softscribe train` writes as config.yaml, as a tree."""
    settings = TrainSettings(
        features=HcqtSettings().to_dict(),
        model=MODEL,
        loss={"name": "sdtw", "gamma": {"start": 5.0, "end": 0.5, "shape": "geometric", "until": 0.7}, "diagonal_prior": {"start": 0.0}},
    )
    return asdict(settings)


def run_config_yaml() -> bytes:
    return yaml.safe_dump(run_config()).encode()


def save_store(folder: Path) -> FeatureStore:
    """Write a feature store of one recording of 1.3 s, named `song`."""
    audio = folder / "song.wav"
    audio.write_bytes(sound("WAV"))
    score = Score(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([60, 64]), np.array([0, 0]), 2.0)
    truth = PerformedNotes(np.array([0.1, 0.6]), np.array([0.6, 1.2]), np.array([60, 64]), np.array([0.0, np.nan]))
    segments = (Segment("001", 0.0, 0.6, 0.0, score.between(0, 1)), Segment("002", 0.6, 1.2, 1.0, score.between(1, 2)))
    store = FeatureStore(folder / "store", HcqtSettings())
    store.write(Recording("song", audio, folder / "song.csv", "train", segments, truth))
    store.set_corpus(["song"])
    return store


def tree_bytes(tree: object) -> bytes:
    """JSON as Python writes it, NaN and lone surrogates included."""
    return json.dumps(tree).encode()
