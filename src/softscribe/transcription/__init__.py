"""Using a trained model: recording -> activations -> notes -> MIDI, CSV, NPZ."""

from softscribe.transcription.activations import predict, shift_back
from softscribe.transcription.export import write_csv, write_midi, write_npz
from softscribe.transcription.notes import TranscribedNotes, decode_notes, output_pitches
from softscribe.transcription.transcriber import Transcriber, Transcription

__all__ = [
    "TranscribedNotes",
    "Transcriber",
    "Transcription",
    "decode_notes",
    "output_pitches",
    "predict",
    "shift_back",
    "write_csv",
    "write_midi",
    "write_npz",
]
