"""A toolkit for speech language models; this file imports nothing so that `toolkit list` is quick."""

__version__ = "0.1.0"
