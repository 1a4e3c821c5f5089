"""Decoders: causal language models that know embeddings and tokens, and nothing of speech."""

from toolkit.decoders import causal_lm

__all__ = ["causal_lm"]
