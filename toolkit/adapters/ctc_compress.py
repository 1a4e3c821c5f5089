"""CTC compression: frames of one CTC label become their mean (Gaido et al. 2021, arXiv 2102.01578).

Recognition as in `ctc`, which passes on nothing but tokens. Here labels only say what belongs together, and the
hidden states themselves pass: also how something was said, and what no token stands for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.adapters.ctc import CTCAdapter, label_runs
from toolkit.adapters.stack import group_times
from toolkit.interfaces import ADAPTERS
from toolkit.types import Padded


def members(runs: Tensor) -> Padded:
    """Say which steps (S, T') are of which run: (S, U, T') bool, and how many runs a row has."""
    counts = runs.max(1).values + 1
    number = torch.arange(int(counts.max()), device=runs.device)
    return Padded(runs[:, None] == number[:, None], counts)


@ADAPTERS.register("ctc_compress")
class CTCCompressAdapter(CTCAdapter):
    """Averages the hidden states of each run of one CTC label, then layer norm and Linear.

    Its recognising part is that of `ctc` and is trained by CTC in the same way; which frames are merged has no
    gradient. Runs of blanks are dropped, for one embedding a token; `keep_blanks` merges them like any other run.
    Sizes are ours.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        factor: int = 4,
        hidden_dim: int = 512,
        layers: int = 2,
        heads: int = 8,
        context: int = 0,
        dropout: float = 0.1,
        time_masks: int = 2,
        mask_frames: int = 20,
        keep_blanks: bool = False,
    ) -> None:
        super().__init__(
            input_dim, output_dim, factor=factor, hidden_dim=hidden_dim, layers=layers, heads=heads,
            context=context, dropout=dropout, time_masks=time_masks, mask_frames=mask_frames,
        )  # fmt: skip
        self.keep_blanks = keep_blanks
        self.out_norm = nn.LayerNorm(hidden_dim)
        self.out = nn.Linear(hidden_dim, output_dim)

    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt to one embedding for each run of one label; at least one a row."""
        hidden = self._hidden(frames)
        labels = self._labels(self._score(hidden.values), hidden.mask)
        runs = members(label_runs(labels, hidden.mask if self.keep_blanks else labels != 0))
        shares = runs.values / runs.values.sum(2, keepdim=True).clamp(min=1)
        embeddings = self.out(self.out_norm(shares.to(hidden.values.dtype) @ hidden.values))
        times = (shares * group_times(frames, self.factor)[:, None]).sum(2)
        return Padded(embeddings, runs.lengths), times
