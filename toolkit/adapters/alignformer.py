"""AlignFormer: a Q-Former whose windows follow a CTC alignment, one output a token (arXiv 2412.01145).

Published is the idea: CTC gives dynamic windows, so that speech becomes as long as its text. Sizes, where a window
ends, and what the queries see were not found; they are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.adapters.ctc import CTCAdapter, label_runs
from toolkit.adapters.ctc_compress import members
from toolkit.adapters.stack import group_times
from toolkit.interfaces import ADAPTERS
from toolkit.types import Padded


def token_windows(labels: Tensor, mask: Tensor) -> Tensor:
    """Give every step (S, T') to the token nearest to it, the earlier of two: numbers from 0, -1 in the padding.

    CTC says a token in a step or two and blank in between, but the token is heard there too.
    """
    kept = labels != 0
    runs = label_runs(labels, kept)
    steps = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    never = 2 * labels.shape[1]
    last = steps.masked_fill(~kept, -never).cummax(1).values
    following = steps.masked_fill(~kept, never).flip(1).cummin(1).values.flip(1)
    windows = runs.cummax(1).values + (following - steps < steps - last).long()
    return windows.masked_fill(~mask, -1)


@ADAPTERS.register("alignformer")
class AlignFormerAdapter(CTCAdapter):
    """One learned query a token: it attends to the other queries and to the window of its own token, then Linear.

    The recognising part is that of `ctc`, is trained by CTC in the same way, and is what the queries look at. Where
    windows end has no gradient.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        factor: int = 4,
        hidden_dim: int = 512,
        layers: int = 2,
        query_layers: int = 2,
        heads: int = 8,
        context: int = 0,
        dropout: float = 0.1,
        time_masks: int = 2,
        mask_frames: int = 20,
    ) -> None:
        super().__init__(
            input_dim, output_dim, factor=factor, hidden_dim=hidden_dim, layers=layers, heads=heads,
            context=context, dropout=dropout, time_masks=time_masks, mask_frames=mask_frames,
        )  # fmt: skip
        self.query = nn.Parameter(0.02 * torch.randn(hidden_dim))
        self.query_layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                hidden_dim, heads, 4 * hidden_dim, dropout, nn.functional.gelu, batch_first=True, norm_first=True
            )
            for _ in range(query_layers)
        )
        self.out_norm = nn.LayerNorm(hidden_dim)
        self.out = nn.Linear(hidden_dim, output_dim)

    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt to one embedding for each token, at the centre of its window; at least one a row."""
        hidden = self._hidden(frames)
        labels = self._labels(self._score(hidden.values), hidden.mask)
        windows = members(token_windows(labels, hidden.mask))
        padding = ~windows.mask
        # A query in the padding sees everything, since softmax must see something.
        blocked = ~(windows.values | padding[..., None])
        x = self.query.expand(*padding.shape, -1)
        for layer in self.query_layers:
            x = layer(
                x,
                hidden.values,
                memory_mask=blocked.repeat_interleave(self.heads, 0),
                tgt_key_padding_mask=padding,
            )
        shares = windows.values / windows.values.sum(2, keepdim=True).clamp(min=1)
        times = (shares * group_times(frames, self.factor)[:, None]).sum(2)
        return Padded(self.out(self.out_norm(x)), windows.lengths), times
