"""Frame stacking and an MLP, in the three published forms: SLAM-ASR's, Ultravox's and Voxtral's.

SLAM-ASR (arXiv 2402.08846, `EncoderProjectorConcat`) is the default.
Ultravox (github fixie-ai/ultravox, `UltravoxProjector`): `factor=8 activation=swiglu bias=false norm=mid`;
version 0.4.1 and before: `norm=post`.
Voxtral (arXiv 2507.13264, `VoxtralMultiModalProjector`): `factor=4 activation=gelu bias=false hidden_dim=null`.
"""

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


def group_means(frames: Padded, factor: int) -> tuple[Padded, Tensor]:
    """Average every `factor` frames that are there: (S, T, D) -> (S, ceil(T / factor), D), and their centres (S, U)."""
    values = frames.zeroed()
    groups = nn.functional.pad(values, (0, 0, 0, -values.shape[1] % factor)).unflatten(1, (-1, factor))
    first = torch.arange(groups.shape[1], device=values.device) * factor
    # Padding is zero and not counted: a mean is over frames that are there.
    counts = (frames.lengths.to(values.device)[:, None] - first).clamp(1, factor)
    return Padded(groups.sum(2) / counts[..., None], -(-frames.lengths // factor)), first + (counts - 1) / 2


class _SwiGLU(nn.Module):
    """Gates the first half of the width by the second: (..., 2H) -> (..., H)."""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        return value * nn.functional.silu(gate)


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "swiglu": _SwiGLU}


@ADAPTERS.register("stack")
class StackAdapter(TimedAdapter):
    """Concatenates `factor` frames, then Linear, activation, Linear; RMS norms where Ultravox has them.

    `hidden_dim` is the width after the activation (swiglu's first Linear makes twice that); None is the decoder's
    width. `norm` none, or one over the stacked frames and one more: mid (after the activation) or post (at the end),
    whose weights start at `norm_init`. SLAM-ASR drops a remainder of less than `factor` frames; here it is kept,
    padded with zeros as in Ultravox, so that a short span still has an embedding.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        factor: int = 5,
        hidden_dim: int | None = 2048,
        activation: str = "relu",
        bias: bool = True,
        norm: str = "none",
        norm_init: float = 0.4,
    ) -> None:
        super().__init__()
        if factor < 1:
            raise ConfigError(f"adapter.factor must be at least 1, not {factor}")
        if hidden_dim is not None and hidden_dim < 1:
            raise ConfigError(f"adapter.hidden_dim is at least 1, or null for the decoder's width, not {hidden_dim}")
        if activation not in ACTIVATIONS:
            raise ConfigError(f"adapter.activation is one of {', '.join(ACTIVATIONS)}, not '{activation}'")
        if norm not in ("none", "mid", "post"):
            raise ConfigError(f"adapter.norm is 'none', 'mid' or 'post', not '{norm}'")
        self.factor = factor
        hidden = output_dim if hidden_dim is None else hidden_dim
        wide = 2 * hidden if activation == "swiglu" else hidden
        project = [
            nn.Linear(input_dim * factor, wide, bias=bias),
            ACTIVATIONS[activation](),
            nn.Linear(hidden, output_dim, bias=bias),
        ]
        if norm == "mid":
            project.insert(2, _rms_norm(hidden, norm_init))
        if norm == "post":
            project.append(_rms_norm(output_dim, norm_init))
        self.norm = nn.Identity() if norm == "none" else _rms_norm(input_dim * factor, norm_init)
        self.project = nn.Sequential(*project)

    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt (S, T, input_dim) to (S, ceil(T / factor), output_dim)."""
        stacked = stack_frames(frames, self.factor)
        embeddings = self.project(self.norm(stacked.values))
        return Padded(embeddings, stacked.lengths), group_times(frames, self.factor)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return ceil(T / factor)."""
        return -(-lengths // self.factor)


def _rms_norm(width: int, start: float) -> nn.RMSNorm:
    """Make an RMS norm whose weights are `start`; Llama's epsilon, which Ultravox keeps."""
    norm = nn.RMSNorm(width, eps=1e-6)
    nn.init.constant_(norm.weight, start)
    return norm
