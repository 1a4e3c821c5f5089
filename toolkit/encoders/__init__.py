"""Encoders: waveform -> frames."""

from toolkit.encoders import whisper

__all__ = ["whisper"]
