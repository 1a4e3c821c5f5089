"""Encoders: waveform -> frames."""

from toolkit.encoders import joined, ssl, units, whisper

__all__ = ["joined", "ssl", "units", "whisper"]
