"""Losses: each sees supervised positions only, already shifted and flattened, and returns a sum."""

from toolkit.losses import alignment, cif_length, cross_entropy, ctc, distillation, hidden, weighted

__all__ = ["alignment", "cif_length", "cross_entropy", "ctc", "distillation", "hidden", "weighted"]
