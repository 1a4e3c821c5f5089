"""An adapter that learns in minutes: frames are recognised as the decoder's own tokens, then merged.

A small transformer is projected on the decoder's frozen embedding matrix plus a blank, and trained by CTC
without running the decoder. Frames are then merged by their CTC label into about one embedding a token, the
one expected under the label probabilities. Ours; CTC compression goes back to Gaido et al. 2021.

Nothing but tokens passes, unless `residual` adds a free vector to each, zero before any imitation. That is what
connectors of the field have, and in it a training can write what it wants of the decoder whatever the prompt says:
cross-entropy on answers made it a soft prompt that doubled the decoder's distance (KL) from what it says to text.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from toolkit.adapters.attention import check_heads
from toolkit.adapters.stack import group_times, stack_frames
from toolkit.errors import CheckpointError, ConfigError
from toolkit.interfaces import ADAPTERS, TokenAdapter
from toolkit.types import Padded


def label_runs(labels: Tensor, kept: Tensor) -> Tensor:
    """Number the runs of one label among the `kept` steps of each row: (S, T') -> (S, T'), -1 at other steps."""
    previous = nn.functional.pad(labels, (1, 0), value=-1)[:, :-1]
    starts = kept & (labels != previous)
    return (starts.cumsum(1) - 1).masked_fill(~kept, -1)


@ADAPTERS.register("ctc")
class CTCAdapter(TokenAdapter):
    """Stacks `factor` frames, attends over the utterance, scores tokens and merges runs of one label.

    `context` limits attention to so many steps to each side, 0 not at all. With little speech a limit
    helps: the encoder has heard the whole utterance anyway, and what sees whole sentences learns them by heart.
    `residual` adds a free vector to each token, which is zero until the decoder's answers are trained.
    """

    exact_lengths: ClassVar[bool] = False
    neutral: ClassVar[tuple[str, ...]] = ("residual.",)

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
        residual: bool = False,
    ) -> None:
        super().__init__()
        check_heads(hidden_dim, heads)
        if hidden_dim % 2:
            raise ConfigError(f"adapter.hidden_dim {hidden_dim} is odd: a position is pairs of a sine and a cosine")
        if factor < 1:
            raise ConfigError(f"adapter.factor must be at least 1, not {factor}")
        self.factor = self.token_stride = factor
        self.heads = heads
        self.context = context
        self.time_masks = time_masks
        self.mask_frames = mask_frames
        self.input_norm = nn.LayerNorm(input_dim)
        self.project = nn.Linear(input_dim * factor, hidden_dim)
        self.convolution = nn.Conv1d(hidden_dim, hidden_dim, 5, padding=2)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                hidden_dim,
                heads,
                4 * hidden_dim,
                dropout,
                nn.functional.gelu,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self.token = nn.Linear(hidden_dim, output_dim)
        self.blank = nn.Linear(hidden_dim, 1)
        self.log_scale = nn.Parameter(torch.tensor(3.0))
        self.residual = nn.Linear(hidden_dim, output_dim) if residual else None
        if self.residual is not None:
            nn.init.zeros_(self.residual.weight)
            nn.init.zeros_(self.residual.bias)
        self.register_buffer("token_ids", torch.zeros(0, dtype=torch.long))
        self.register_buffer("_embeddings", torch.zeros(0, output_dim), persistent=False)
        self.register_buffer("_directions", torch.zeros(0, output_dim), persistent=False)
        self.bias = nn.Parameter(torch.zeros(0))

    def attach(self, token_ids: Tensor, embeddings: Tensor) -> None:
        """Give the adapter its tokens (K,) and their frozen embeddings (K, output_dim)."""
        if len(token_ids) != len(embeddings):
            raise ConfigError(f"{len(token_ids)} tokens and {len(embeddings)} embeddings do not fit")
        if embeddings.shape[1] != self.token.out_features:
            raise ConfigError(
                f"the adapter was built for embeddings of {self.token.out_features} values, and the decoder's tokens "
                f"have {embeddings.shape[1]}"
            )
        self.token_ids = token_ids
        self._embeddings = embeddings.detach().float()
        # Embeddings share a large common part; what tells tokens apart is what is left without it.
        centred = self._embeddings - self._embeddings.mean(0)
        self._directions = nn.functional.normalize(centred, dim=-1)
        if len(self.bias) != len(token_ids):
            self.bias = nn.Parameter(torch.zeros(len(token_ids), device=self.log_scale.device))

    def token_logits(self, frames: Padded) -> Padded:
        """Score blank and tokens: (S, T, input_dim) -> (S, ceil(T / factor), K + 1)."""
        hidden = self._hidden(self._masked(frames) if self.training else frames)
        return Padded(self._score(hidden.values), hidden.lengths)

    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt to one embedding for each run of one label; at least one a row."""
        hidden = self._hidden(frames)
        logits = self._score(hidden.values)
        labels = self._labels(logits, hidden.mask)
        kept = labels != 0
        runs = label_runs(labels, kept)
        counts = runs.amax(1) + 1
        total = int(counts.sum())
        run = (runs + (counts.cumsum(0) - counts)[:, None])[kept]  # numbered through all rows
        values = torch.softmax(logits[kept][:, 1:], dim=-1) @ self._embeddings
        if self.residual is not None:
            values = values + self.residual(hidden.values[kept])
        centres = group_times(frames, self.factor)[kept]
        size = torch.zeros(total, device=values.device).index_add_(0, run, torch.ones_like(centres))
        merged = values.new_zeros(total, values.shape[1]).index_add(0, run, values) / size[:, None]
        when = centres.new_zeros(total).index_add_(0, run, centres) / size
        sizes = counts.tolist()
        return Padded.of(merged.split(sizes)), Padded.of(when.split(sizes)).values

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return the most there can be: one embedding for each stack of frames."""
        return -(-lengths // self.factor)

    def _hidden(self, frames: Padded) -> Padded:
        """Contextualise: (S, T, input_dim) -> (S, T', hidden_dim)."""
        values = self.input_norm(frames.values.to(self.project.weight.dtype))
        x = stack_frames(Padded(values, frames.lengths), self.factor)
        mask = x.mask
        hidden = self.project(x.values) + _positions(x.values.shape[1], self.project.out_features).to(values)
        local = self.convolution(hidden.masked_fill(~mask[..., None], 0).transpose(1, 2)).transpose(1, 2)
        hidden = hidden + nn.functional.gelu(local)
        attention = self._attention_mask(mask)
        for layer in self.layers:
            hidden = layer(hidden, src_mask=attention)
        return Padded(self.dropout(self.norm(hidden)), x.lengths)

    def _attention_mask(self, mask: Tensor) -> Tensor:
        """Return what may not be attended: (S * heads, T', T'). Padding attends to itself, since softmax must."""
        steps = torch.arange(mask.shape[1], device=mask.device)
        distance = (steps[:, None] - steps[None]).abs()
        blocked = ~mask[:, None, :].expand(-1, len(steps), -1)
        if self.context:
            blocked = blocked | (distance > self.context)
        return (blocked & (distance > 0)).repeat_interleave(self.heads, 0)

    def _score(self, hidden: Tensor) -> Tensor:
        if len(self.token_ids) == 0:
            raise CheckpointError(
                "the ctc adapter has no tokens: train a warm start (recipes=warm_start) and name it in train.init_from"
            )
        direction = nn.functional.normalize(self.token(hidden), dim=-1)
        scores = direction @ self._directions.T * self.log_scale.exp() + self.bias
        return torch.cat([self.blank(hidden), scores], dim=-1)

    def _labels(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Choose the best label of each step (S, T'); a row that would be all blank keeps its best token."""
        labels = logits.argmax(-1).masked_fill(~mask, 0)
        silent = ~(labels != 0).any(1)
        best, token = logits[..., 1:].max(-1)
        step = (best - logits[..., 0]).masked_fill(~mask, -torch.inf).argmax(1)
        rows = torch.arange(len(labels), device=labels.device)
        labels[rows[silent], step[silent]] = token[rows[silent], step[silent]] + 1
        return labels

    def _masked(self, frames: Padded) -> Padded:
        """Hide `time_masks` random stretches of up to `mask_frames` frames in each row.

        For CTC only: a hidden word can be guessed from its neighbours, but no answer should be learnt from a
        question that was not heard.
        """
        values, lengths = frames.values, frames.lengths
        steps = torch.arange(values.shape[1], device=values.device)
        for _ in range(self.time_masks):
            width = torch.randint(0, self.mask_frames + 1, lengths.shape, device=values.device)
            start = (torch.rand(lengths.shape, device=values.device) * lengths).long()
            hide = (steps >= start[:, None]) & (steps < (start + width)[:, None])
            values = values.masked_fill(hide[..., None], 0)
        return Padded(values, lengths)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        """Take the number of tokens from the checkpoint, so that a restored adapter needs no other wiring."""
        if prefix + "token_ids" in state_dict:
            self.token_ids = torch.zeros_like(state_dict[prefix + "token_ids"])
            self.bias = nn.Parameter(torch.zeros_like(state_dict[prefix + "bias"]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _positions(length: int, width: int) -> Tensor:
    """Sinusoids (length, width), as in Vaswani et al. 2017."""
    position = torch.arange(length)[:, None]
    rate = torch.exp(torch.arange(0, width, 2) * (-torch.log(torch.tensor(10000.0)) / width))
    return torch.stack([torch.sin(position * rate), torch.cos(position * rate)], dim=-1).reshape(length, -1)
