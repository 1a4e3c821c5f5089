"""Average pooling and a linear layer: Qwen-Audio (arXiv 2311.07919) and Qwen2-Audio (arXiv 2407.10759)."""

from torch import Tensor, nn

from toolkit.adapters.stack import group_means
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, TimedAdapter
from toolkit.types import Padded


@ADAPTERS.register("pool_linear")
class PoolLinearAdapter(TimedAdapter):
    """Means of `factor` frames, a layer norm, a linear layer: 50 frames a second become 25.

    The published models end their encoder before Whisper's last layer norm and put that norm after the pooling.
    An encoder of ours has normed its frames already; `norm=false` leaves the second norm out. A last group of fewer
    than `factor` frames is the mean of those that there are; the published pooling drops it, and then one frame
    would have no embedding.
    """

    def __init__(self, input_dim: int, output_dim: int, *, factor: int = 2, norm: bool = True) -> None:
        super().__init__()
        if factor < 1:
            raise ConfigError(f"adapter.factor must be at least 1, not {factor}")
        self.factor = factor
        self.norm = nn.LayerNorm(input_dim) if norm else nn.Identity()
        self.project = nn.Linear(input_dim, output_dim)

    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt (S, T, input_dim) to (S, ceil(T / factor), output_dim)."""
        means, times = group_means(frames, self.factor)
        return Padded(self.project(self.norm(means.values)), means.lengths), times

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return ceil(T / factor)."""
        return -(-lengths // self.factor)
