"""Discrete units: k-means over an encoder's frames, as HuBERT's (arXiv 2106.07447) in Spirit-LM and SIMS."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.data.kmeans import nearest
from toolkit.data.units import check_units, encoder_mark, read_units
from toolkit.errors import ConfigError
from toolkit.interfaces import ENCODERS, Encoder
from toolkit.types import Padded

EMBEDDINGS = ("centroid", "one_hot")


@ENCODERS.register("units")
class UnitsEncoder(Encoder):
    """Says each frame of another encoder by its nearest centroid.

    `of` is the mapping that configures that encoder alone, `{name: ssl, model: ..., taps: [6]}`, which a recipe gives
    as it is and the command line as `+encoder.of={...}`. `centroids` is the file that `toolkit units` makes with the
    same configuration; units of other frames are refused.

    Spirit-LM (arXiv 2402.05755) and SIMS (2504.02398) add the units to the LLM's vocabulary and train all of it. Ours:
    the LLM stays as it is, and an adapter reads a unit as its `centroid` or as `one_hot` (..., K), in which the
    adapter's first linear layer is a table of embeddings that is learned. No gradient passes the choice of a unit, so
    such an encoder is frozen.

    Runs of one unit stay runs: merged, lengths would depend on what is said and frames would lose their times, by
    which speech is cut. A frame that is equally near to two centroids, up to rounding, may get either.
    """

    centroids: Tensor
    digest: Tensor

    def __init__(self, *, of: dict[str, Any], centroids: str, embedding: str = "centroid") -> None:
        super().__init__()
        if embedding not in EMBEDDINGS:
            raise ConfigError(f"encoder.embedding is one of {', '.join(EMBEDDINGS)}, not '{embedding}'")
        if "name" not in of:
            raise ConfigError("encoder.of has no name: give it as {name: ssl, model: ...}")
        values, about = read_units(Path(centroids))
        self.of = ENCODERS.build(of)
        check_units(Path(centroids), about, encoder_mark(of, self.of))
        self.embedding = embedding
        self.register_buffer("centroids", values)
        # Fingerprints look at some values of a tensor; by this one they see all.
        digest = hashlib.sha256(values.numpy().tobytes()).digest()
        self.register_buffer("digest", torch.tensor(list(digest), dtype=torch.uint8))
        self.output_dim = values.shape[1 if embedding == "centroid" else 0]
        self.sampling_rate = self.of.sampling_rate
        self.frame_shift = self.of.frame_shift
        self.max_duration = self.of.max_duration

    def forward(self, audio: Padded) -> Padded:
        """Encode (B, samples) to (B, T, output_dim)."""
        units = self.units(audio)
        if self.embedding == "centroid":
            return Padded(self.centroids[units.values], units.lengths)
        return Padded(nn.functional.one_hot(units.values, len(self.centroids)).to(self.centroids), units.lengths)

    def units(self, audio: Padded) -> Padded:
        """Return the unit of each frame: (B, samples) -> (B, T), 0 to K - 1."""
        frames: Padded = self.of(audio)
        found, _ = nearest(frames.zeroed().flatten(0, 1), self.centroids)
        return Padded(found.unflatten(0, frames.values.shape[:2]), frames.lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return as many as the frames of `of`."""
        return self.of.output_lengths(lengths)
