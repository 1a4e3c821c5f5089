"""BLSP's convolutional subsampler with a bottleneck (arXiv 2309.00916, `Conv1dSubsampler` and adapter)."""

import torch
from torch import Tensor, nn

from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, TimedAdapter
from toolkit.types import Padded


@ADAPTERS.register("conv")
class ConvAdapter(TimedAdapter):
    """Three convolutions (kernel 5, stride 2, GLU), a residual bottleneck and a layer norm: 8 times shorter.

    Widths as published: input -> 2 * input (GLU halves) twice, then 2 * output (GLU: output); bottleneck
    without biases, `bottleneck` 512.
    """

    def __init__(
        self, input_dim: int, output_dim: int, *, layers: int = 3, kernel: int = 5, bottleneck: int = 512
    ) -> None:
        super().__init__()
        if layers < 1 or bottleneck < 1:
            raise ConfigError(f"adapter.layers and adapter.bottleneck are at least 1, not {layers} and {bottleneck}")
        if kernel < 1 or kernel % 2 == 0:
            raise ConfigError(f"adapter.kernel is odd, so that it has a middle, not {kernel}")
        widths = [input_dim] * layers + [output_dim]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(widths[i], 2 * widths[i + 1], kernel, stride=2, padding=kernel // 2) for i in range(layers)
        )
        self.down = nn.Linear(output_dim, bottleneck, bias=False)
        self.up = nn.Linear(bottleneck, output_dim, bias=False)
        self.norm = nn.LayerNorm(output_dim)

    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt (S, T, input_dim) to (S, ceil(T / 2^layers), output_dim)."""
        x = frames
        for convolution in self.convolutions:
            # Padding is zeroed before every convolution: else the last valid output hears it.
            hidden = convolution(x.zeroed().transpose(1, 2)).transpose(1, 2)
            x = Padded(nn.functional.glu(hidden, dim=-1), (x.lengths + 1) // 2)
        embeddings = self.norm(x.values + self.up(nn.functional.gelu(self.down(x.values))))
        stride = 2 ** len(self.convolutions)
        # Kernels are centred, so output u looks around input frame u * stride (or the last one there is).
        centres = (torch.arange(embeddings.shape[1], device=embeddings.device) * stride).float()
        times = torch.minimum(centres[None], (frames.lengths - 1).clamp(min=0)[:, None].float())
        return Padded(embeddings, x.lengths), times

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Halve, rounding up, once a layer."""
        for _ in self.convolutions:
            lengths = (lengths + 1) // 2
        return lengths
