"""Encoders: waveform -> frames."""

from toolkit.encoders import joined, ssl, whisper

__all__ = ["joined", "ssl", "whisper"]
