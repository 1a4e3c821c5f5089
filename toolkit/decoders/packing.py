"""Several short rows run in the place of a long one: nothing is padded that another row fits in.

Each row sees what stands before it and itself alone, by a mask of blocks, and has the positions that it has alone; so
it gives what it gives in a row of its own. No packed row is longer than the longest row, so attention costs no more.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from toolkit.decoders.attention import NAME, added


def can_pack(config: Any) -> bool:
    """Tell whether a model of such a configuration of transformers takes a mask of blocks and positions as they are.

    Its attention sees all of a row, is torch's own or written out, and knows positions by rotation (RoPE).
    """
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    rotates = getattr(config, "rope_parameters", None) is not None
    plain = getattr(config, "_attn_implementation", "") in ("sdpa", "eager", NAME)
    return kinds == {"full_attention"} and not windowed and rotates and plain


@dataclass(frozen=True)
class Packing:
    """Which rows share one."""

    bins: list[list[int]]
    lengths: list[int]

    @classmethod
    def of(cls, lengths: Seq[int], after: Seq[int]) -> Packing:
        """Pack rows, the longest first, each into the first packed row that it fits in.

        Args:
            lengths: of the rows.
            after: of each row, what it goes on from; only rows after the same thing share one.
        """
        bins: list[list[int]] = []
        room: list[int] = []
        for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
            fits = (i for i, held in enumerate(bins) if after[held[0]] == after[row] and room[i] >= lengths[row])
            place = next(fits, len(bins))
            if place == len(bins):
                bins.append([])
                room.append(max(lengths))
            bins[place].append(row)
            room[place] -= lengths[row]
        return cls(bins, list(lengths))

    def join(self, rows: Seq[Tensor]) -> Tensor:
        """Put rows (n_i, ...) after each other: (packed rows, N, ...), padded on the right."""
        return pad_sequence([torch.cat([rows[row] for row in held]) for held in self.bins], batch_first=True)

    def split(self, values: Tensor) -> Tensor:
        """Take (packed rows, N, D) apart into the rows again: (B, longest, D), padded on the right."""
        rows: dict[int, Tensor] = {}
        for packed, held in zip(values, self.bins, strict=True):
            pieces = packed[: sum(self.lengths[row] for row in held)].split([self.lengths[row] for row in held])
            rows.update(zip(held, pieces, strict=True))
        return pad_sequence([rows[row] for row in range(len(rows))], batch_first=True)

    def mask(self, opening: Tensor, dtype: torch.dtype) -> Tensor:
        """Say what each position sees of what stands before, where `opening` (packed rows, P) is 1, and of its own row.

        Returns:
            (packed rows, 1, N, P + N), added to the scores: 0 where it is seen, else as little as there is.
        """
        numbers = [torch.full((length,), row + 1, device=opening.device) for row, length in enumerate(self.lengths)]
        row = self.join(numbers)
        own = (row[:, :, None] == row[:, None]) & (row[:, :, None] > 0)
        before = (opening > 0)[:, None].expand(-1, row.shape[1], -1) & (row[:, :, None] > 0)
        seen = torch.cat([before, own.tril()], dim=2)[:, None]
        return added(seen, dtype)


def run_packed(
    run: Callable[..., Any],
    rows: Seq[Tensor],
    skipped: Tensor,
    audio: Seq[Tensor] = (),
    after: Tensor | None = None,
    opening: Tensor | None = None,
    cache: Any = None,
) -> Tensor:
    """Run rows packed.

    Args:
        run: runs a model: (embeddings, mask, positions, audio).
        rows: B of embeddings (n_i, D).
        skipped: (B,) how many positions stand before each.
        audio: of each row, where it is speech.
        after: (B,) which of the rows of the cache each goes on from.
        opening: (rows of the cache, P) 0 where the cache holds padding.
        cache: keys and values of what stands before; None is nothing.

    Returns:
        the model's hidden states by row: (B, longest, D).
    """
    device = rows[0].device
    packing = Packing.of([len(row) for row in rows], [0] * len(rows) if after is None else after.tolist())
    first = torch.tensor([held[0] for held in packing.bins], device=device)
    seen, more = torch.zeros(len(first), 0, device=device), {}
    if after is not None and opening is not None:
        seen, more = opening[after[first]], {"past_key_values": cache, "use_cache": True}
        with torch.no_grad():
            cache.batch_select_indices(after[first])
    values = packing.join(rows)
    places = [torch.arange(len(row), device=device) + n for row, n in zip(rows, skipped, strict=True)]
    heard = packing.join(audio) if audio else None
    state = run(values, packing.mask(seen, values.dtype), packing.join(places), heard, **more)
    return packing.split(state.last_hidden_state)


def pad(sequences: Seq[Tensor], *, left: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Pad rows (n_i, D) to (B, N, D), with mask (B, N) and the positions (B, N) each row has alone."""
    side = "left" if left else "right"
    values = pad_sequence(list(sequences), batch_first=True, padding_side=side)
    ones = [torch.ones(len(row), dtype=torch.long, device=values.device) for row in sequences]
    mask = pad_sequence(ones, batch_first=True, padding_side=side)
    return values, mask, (mask.cumsum(1) - 1).clamp(min=0)


def pad_audio(audio: Seq[Tensor], *, left: bool) -> Tensor | None:
    """Pad masks (n_i,) to (B, N) as `pad` pads their rows; None where there are none."""
    side = "left" if left else "right"
    return pad_sequence(list(audio), batch_first=True, padding_side=side) if audio else None
