"""What was heard: audio files as samples, and the harmonic constant-Q transform that the models see."""

from softscribe.sound.audio import audio_duration_seconds, read_audio
from softscribe.sound.hcqt import HcqtSettings, compress, hcqt, transpose
from softscribe.sound.tuning import estimate_tuning_semitones

__all__ = ["HcqtSettings", "audio_duration_seconds", "compress", "estimate_tuning_semitones", "hcqt", "read_audio", "transpose"]
