"""MIDI files: as scores in quarter notes (ticks over resolution, whatever the tempo), as performances in seconds.

Drums (channel 10) are left out, and so are notes of no duration; each instrument of a track is a part. A MIDI file holds what its
writer made of a score: notation programs often shorten notes a little, which shows as silence between them.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from softscribe.errors import InputError
from softscribe.files import read_bounded
from softscribe.scores.notes import PerformedNotes, Score

#: Larger files are no scores: a symphony has 0.5 MB. Each byte may become an event of some hundred bytes.
MAXIMUM_BYTES = 10_000_000


def read_score_midi(path: Path) -> Score:
    """Read a MIDI file as a score; it ends with its last note.

    Raises:
        InputError: the file cannot be read, is damaged, or holds no note.
    """
    midi = _parsed(path, in_seconds=False)
    notes = [
        (midi.time_to_tick(note.start), midi.time_to_tick(note.end), note.pitch, part)
        for part, instrument in enumerate(instrument for instrument in midi.instruments if not instrument.is_drum)
        for note in instrument.notes
    ]
    start_ticks, end_ticks, pitches, parts = np.array(notes, dtype=np.int64).reshape(-1, 4).T
    kept = end_ticks > start_ticks
    if not kept.any():
        raise InputError(f"{path}: holds no pitched note. Remedy: give a MIDI file that has notes, or leave it out.")
    onsets = start_ticks[kept] / midi.resolution
    durations = (end_ticks - start_ticks)[kept] / midi.resolution
    return Score(onsets, durations, pitches[kept], parts[kept], float((onsets + durations).max()))


def read_performed_notes_midi(path: Path) -> PerformedNotes:
    """Read a MIDI file as a performance, in seconds by its tempo; notes end with their key, pedals are not heard.

    Raises:
        InputError: the file cannot be read, is damaged, or holds no note.
    """
    midi = _parsed(path, in_seconds=True)
    notes = [
        (note.start, note.end, note.pitch)
        for instrument in midi.instruments
        if not instrument.is_drum
        for note in instrument.notes
        if note.end > note.start
    ]
    if not notes:
        raise InputError(f"{path}: holds no pitched note. Remedy: give a MIDI file that has notes, or leave it out.")
    onsets, offsets, pitches = np.array(notes, dtype=np.float64).T
    return PerformedNotes(onsets, offsets, pitches.astype(np.int64), np.full(len(onsets), np.nan))


def _parsed(path: Path, in_seconds: bool) -> Any:
    """The file as a `pretty_midi.PrettyMIDI`, refused if its seconds are needed and cannot be trusted."""
    import mido
    import pretty_midi

    data = read_bounded(path, MAXIMUM_BYTES)
    remedy = "Remedy: export the MIDI file again, or leave it out."
    if data[:4] != b"MThd":
        raise InputError(f"{path}: {'empty' if not data else 'not a MIDI file'}. {remedy}")
    division = int.from_bytes(data[12:14], "big")
    if not 0 < division < 0x8000:
        raise InputError(f"{path}: its time division {division} counts no ticks per quarter note. {remedy}")
    try:
        events = mido.MidiFile(file=io.BytesIO(data))
        # pretty_midi looks for tempos in the first track only; ticks do not depend on them.
        if in_seconds and any(message.type == "set_tempo" for track in events.tracks[1:] for message in track):
            raise InputError(f"{path}: changes tempo outside its first track. Remedy: save it as a type 0 MIDI file.")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Tempo, Key or Time signature change events", RuntimeWarning)
            return pretty_midi.PrettyMIDI(mido_object=events)
    except InputError:
        raise
    # The parser has no error class of its own: damaged bytes end in OSError, EOFError, KeyError, IndexError and more, some without a text.
    except Exception as error:
        raise InputError(f"{path}: a damaged MIDI file ({type(error).__name__}{f': {error}' if str(error) else ''}). {remedy}") from error
