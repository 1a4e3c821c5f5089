"""Interleavers: pure-Python planners of what is speech and what is text."""

from toolkit.interleavers import alternating, poisson, sentences, spans, text, uniform, whole, words

__all__ = ["alternating", "poisson", "sentences", "spans", "text", "uniform", "whole", "words"]
