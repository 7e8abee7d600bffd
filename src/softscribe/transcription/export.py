"""Transcriptions as files: MIDI, CSV and NPZ, each written whole or not at all."""

import csv
from pathlib import Path

import numpy as np

from softscribe.files import replacing
from softscribe.transcription.notes import TranscribedNotes
from softscribe.transcription.transcriber import Transcription

CSV_HEADER = ("onset_seconds", "offset_seconds", "pitch", "velocity")
PITCH_CLASS_TRACK_NAME = "Pitch classes, octave unknown (written as MIDI 60-71)"
PITCH_TRACK_NAME = "Pitches"

_BEATS_PER_MINUTE = 120
_TICKS_PER_BEAT = 500
"""Together one tick per millisecond, the resolution of the CSV: both files hold the same times. The beat itself is not transcribed."""


def write_midi(notes: TranscribedNotes, path: Path, *, outputs: int) -> None:
    """Write the notes as a MIDI file with one track, in milliseconds; the tempo of 120 beats per minute means nothing.

    Args:
        notes: their velocities are confidences, not loudness.
        path: where to.
        outputs: of the model: with 12, the name of the track says that all notes are pitch classes in one octave, 60-71.

    Raises:
        InputError: the file cannot be written.

    >>> import tempfile
    >>> notes = TranscribedNotes(np.array([0.5]), np.array([1.25]), np.array([69]), np.array([100]))
    >>> path = Path(tempfile.mkdtemp()) / "a.mid"
    >>> write_midi(notes, path, outputs=12)
    >>> import pretty_midi
    >>> pretty_midi.PrettyMIDI(str(path)).instruments[0].notes
    [Note(start=0.500000, end=1.250000, pitch=69, velocity=100)]
    """
    import pretty_midi

    track = pretty_midi.Instrument(program=0, name=PITCH_CLASS_TRACK_NAME if outputs == 12 else PITCH_TRACK_NAME)
    for onset, offset, pitch, velocity in _rows(notes):
        track.notes.append(pretty_midi.Note(velocity=velocity, pitch=pitch, start=onset, end=offset))
    midi = pretty_midi.PrettyMIDI(resolution=_TICKS_PER_BEAT, initial_tempo=_BEATS_PER_MINUTE)
    midi.instruments.append(track)
    with replacing(path) as temporary:
        midi.write(str(temporary))


def write_csv(notes: TranscribedNotes, path: Path) -> None:
    """Write the notes with the header `onset_seconds,offset_seconds,pitch,velocity`, times in seconds to the millisecond.

    Raises:
        InputError: the file cannot be written.

    >>> import tempfile
    >>> notes = TranscribedNotes(np.array([0.5]), np.array([1.25]), np.array([69]), np.array([100]))
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> write_csv(notes, path)
    >>> print(path.read_text(), end="")
    onset_seconds,offset_seconds,pitch,velocity
    0.500,1.250,69,100
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_HEADER)
        writer.writerows((f"{onset:.3f}", f"{offset:.3f}", pitch, velocity) for onset, offset, pitch, velocity in _rows(notes))


def write_npz(transcription: Transcription, path: Path) -> None:
    """Write `activations` (frames, outputs), `frames_per_second` and `pitches` (the MIDI pitch of each output; 60-71 for pitch classes).

    Raises:
        InputError: the file cannot be written.
    """
    # Through an open file, because numpy would append .npz to another name.
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            activations=transcription.activations,
            frames_per_second=np.float64(transcription.frames_per_second),
            pitches=transcription.pitches,
        )


def _rows(notes: TranscribedNotes) -> list[tuple[float, float, int, int]]:
    """Return onset and offset to the millisecond, pitch and velocity of each note."""
    onsets, offsets = notes.onsets_seconds.round(3).tolist(), notes.offsets_seconds.round(3).tolist()
    return list(zip(onsets, offsets, notes.pitches.tolist(), notes.velocities.tolist(), strict=True))
