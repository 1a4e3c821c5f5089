"""Losses: each sees supervised positions only, already shifted and flattened, and returns a sum."""

from toolkit.losses import (
    alignment,
    cif_length,
    contrastive,
    cross_entropy,
    ctc,
    distillation,
    embedding,
    hidden,
    weighted,
)

__all__ = [
    "alignment",
    "cif_length",
    "contrastive",
    "cross_entropy",
    "ctc",
    "distillation",
    "embedding",
    "hidden",
    "weighted",
]
