"""The adapter `new_part`. Say here which idea it is, and whose: paper, arXiv id."""

import torch
from torch import Tensor, nn

from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, Padded, TimedAdapter


@ADAPTERS.register("new_part")
class NewPartAdapter(TimedAdapter):
    """Keeps every `stride`-th frame and projects it."""

    # The toolkit gives what is positional. What is keyword-only is configuration: `adapter.stride=2`.
    def __init__(self, input_dim: int, output_dim: int, *, stride: int = 4) -> None:
        super().__init__()
        if stride < 1:
            raise ConfigError(f"adapter.stride is a number of frames, 1 or more, not {stride}")
        self.stride = stride
        self.project = nn.Linear(input_dim, output_dim)

    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt (S, T, input_dim) to (S, ceil(T / stride), output_dim), each output at the frame it was."""
        kept = frames.zeroed()[:, :: self.stride]  # zeroed: what stands in the padding must mean nothing
        times = torch.arange(kept.shape[1], device=kept.device) * float(self.stride)
        return Padded(self.project(kept), self.output_lengths(frames.lengths)), times.expand(len(kept), -1)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return ceil(T / stride)."""
        return -(-lengths // self.stride)
