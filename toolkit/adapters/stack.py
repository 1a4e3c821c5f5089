"""Frame stacking and an MLP: SLAM-ASR's projector (arXiv 2402.08846, `EncoderProjectorConcat`)."""

import torch
from torch import Tensor, nn

from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, TimedAdapter
from toolkit.types import Padded


def stack_frames(frames: Padded, factor: int) -> Padded:
    """Concatenate every `factor` frames: (S, T, D) -> (S, ceil(T / factor), factor * D), zeros after the end."""
    values = frames.zeroed()
    values = nn.functional.pad(values, (0, 0, 0, -values.shape[1] % factor))
    stacked = values.reshape(values.shape[0], -1, factor * values.shape[2])
    return Padded(stacked, -(-frames.lengths // factor))


def group_times(frames: Padded, factor: int) -> Tensor:
    """Return the centre of each group of `factor` input frames, in input frames: (S, ceil(T / factor))."""
    groups = -(-frames.values.shape[1] // factor)
    centres = torch.arange(groups, device=frames.values.device) * factor + (factor - 1) / 2
    return torch.minimum(centres[None], (frames.lengths - 1).clamp(min=0)[:, None].to(centres))


@ADAPTERS.register("stack")
class StackAdapter(TimedAdapter):
    """Concatenates `factor` frames, then Linear, ReLU, Linear.

    SLAM-ASR drops a remainder of less than `factor` frames; here it is kept, padded with zeros, so that a
    short span still has an embedding.
    """

    def __init__(self, input_dim: int, output_dim: int, *, factor: int = 5, hidden_dim: int = 2048) -> None:
        super().__init__()
        if factor < 1:
            raise ConfigError(f"adapter.factor must be at least 1, not {factor}")
        self.factor = factor
        self.project = nn.Sequential(
            nn.Linear(input_dim * factor, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, output_dim)
        )

    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt (S, T, input_dim) to (S, ceil(T / factor), output_dim)."""
        stacked = stack_frames(frames, self.factor)
        embeddings = self.project(stacked.values)
        return Padded(embeddings, stacked.lengths), group_times(frames, self.factor)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return ceil(T / factor)."""
        return -(-lengths // self.factor)
