"""Decoders: any causal language model, frozen or with LoRA."""

from toolkit.decoders import causal_lm, lora

__all__ = ["causal_lm", "lora"]
