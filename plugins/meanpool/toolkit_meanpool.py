"""Mean-pooling adapter: averages every few frames. With `pyproject.toml` beside it, a whole plugin."""

import torch
from torch import Tensor, nn

from toolkit.interfaces import ADAPTERS, Padded, TimedAdapter


@ADAPTERS.register("meanpool")
class MeanPoolAdapter(TimedAdapter):
    """Averages every `window` frames, then projects the mean."""

    def __init__(self, input_dim: int, output_dim: int, *, window: int = 4) -> None:
        super().__init__()
        self.window = window
        self.project = nn.Linear(input_dim, output_dim)

    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt (S, T, input_dim) to (S, ceil(T / window), output_dim)."""
        # A mean over padding would hear the batch: only valid frames are summed, and only they are counted.
        counts = self._sums(frames.mask[..., None].to(frames.values))
        means = self._sums(frames.zeroed()) / counts.clamp(min=1)
        starts = torch.arange(counts.shape[1], device=counts.device) * self.window
        times = starts + (counts[..., 0] - 1) / 2
        return Padded(self.project(means), self.output_lengths(frames.lengths)), times

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return ceil(T / window)."""
        return -(-lengths // self.window)

    def _sums(self, x: Tensor) -> Tensor:
        """Sum every `window` steps: (S, T, D) -> (S, ceil(T / window), D)."""
        x = nn.functional.pad(x, (0, 0, 0, -x.shape[1] % self.window))
        return x.reshape(x.shape[0], -1, self.window, x.shape[2]).sum(2)
