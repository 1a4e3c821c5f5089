"""Losses: each sees supervised positions only, already shifted and flattened, and returns a sum."""

from toolkit.losses import cross_entropy, ctc, distillation, weighted

__all__ = ["cross_entropy", "ctc", "distillation", "weighted"]
