"""Forced alignment by CTC: the steps at which the labels of a transcript are said, on their most probable path.

Viterbi over the states of CTC (Graves et al. 2006): the labels in order, with a blank before, between and after
them. All rows and states of a step are one tensor operation. A network that was trained by CTC alone is sure of a
label at a step or two and blank around them: what it knows is where a word is, less where it begins and ends.

Letters as in `toolkit.types`; N labels of a transcript, K labels beside the blank, which is label 0.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch
from torch import Tensor
from torch.nn.functional import pad

from toolkit.types import Padded, Word


def best_paths(logits: Padded, labels: Padded) -> tuple[Tensor, Tensor]:
    """Find the most probable way to say `labels`.

    Args:
        logits: (B, T, K + 1).
        labels: (B, N), each 1..K.

    Returns:
        (B, T) which of the row's labels, 0..N-1, is said at each step, -1 where none is; and (B,) the log probability
        of that path, -inf where the row has too few steps for its labels.
    """
    scores = torch.log_softmax(logits.values.float(), dim=-1)
    lengths = logits.lengths.to(scores.device)
    states = labels.values.new_zeros(len(scores), 2 * labels.values.shape[1] + 1)
    states[:, 1::2] = labels.zeroed()
    skips = torch.zeros_like(states, dtype=torch.bool)  # a blank may be left out between labels that differ
    skips[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    emitted = scores.gather(2, states[:, None].expand(-1, scores.shape[1], -1))
    best = emitted[:, 0].clone()
    best[:, 2:] = -torch.inf
    moves = []
    for step in range(1, scores.shape[1]):
        arrivals = torch.stack(
            [
                best,
                pad(best, (1, 0), value=-torch.inf)[:, :-1],
                pad(best, (2, 0), value=-torch.inf)[:, : best.shape[1]].masked_fill(~skips, -torch.inf),
            ]
        )
        score, move = arrivals.max(0)
        running = (step < lengths)[:, None]  # a shorter row waits where it ended
        best = torch.where(running, score + emitted[:, step], best)
        moves.append(move.masked_fill(~running, 0))
    ends = 2 * labels.lengths.to(scores.device)  # the blank after the last label, or that label
    endings = torch.stack([ends, (ends - 1).clamp(min=0)], dim=1)
    score, choice = best.gather(1, endings).max(1)
    state = endings.gather(1, choice[:, None])
    path = [state]
    for move in reversed(moves):
        state = (state - move.gather(1, state)).clamp(min=0)  # below 0 only where there is no path at all
        path.append(state)
    along = torch.cat(path[::-1], dim=1)
    said = torch.where(along % 2 == 1, along // 2, -1)
    return said.masked_fill(~logits.mask.to(said.device), -1), score


def words_at(said: Tensor, texts: Seq[str], counts: Seq[int], step: float, duration: float) -> tuple[Word, ...]:
    """Time words from their first label to their last.

    Args:
        said: (T,) of one row, from `best_paths`.
        texts: of the words.
        counts: labels of each word, at least 1.
        step: seconds from one step to the next.
        duration: of the utterance, in seconds: no word ends later.
    """
    words, first = [], 0
    for text, count in zip(texts, counts, strict=True):
        steps = ((said >= first) & (said < first + count)).nonzero()[:, 0].tolist()
        words.append(Word(text, steps[0] * step, min((steps[-1] + 1) * step, duration)))
        first += count
    return tuple(words)
