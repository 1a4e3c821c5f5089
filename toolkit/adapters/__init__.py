"""Adapters: encoder frames -> embeddings of the decoder, one row for a span of speech."""

from toolkit.adapters import conv, ctc, stack

__all__ = ["conv", "ctc", "stack"]
