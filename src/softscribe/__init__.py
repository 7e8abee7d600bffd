"""Softscribe trains music transcription models from recordings and their scores alone."""

__version__ = "0.1.0"
