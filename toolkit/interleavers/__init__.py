"""Interleavers: pure-Python planners of what is speech and what is text."""

from toolkit.interleavers import text, whole, words

__all__ = ["text", "whole", "words"]
