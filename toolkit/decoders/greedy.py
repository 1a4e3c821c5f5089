"""Greedy answers to many rows: those that have ended make room for those that wait."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq

from torch import Tensor

from toolkit.decoders.row_cache import Begun, is_roomy
from toolkit.types import GenerationOptions

LINGERING = 16
"""rows that have ended stay until they are more than one in so many"""


def answer_greedily(
    count: int,
    options: GenerationOptions,
    begin: Callable[[Seq[int]], Begun],
    go_on: Callable[[Begun, Tensor], None],
    score: Callable[[Tensor], Tensor],
) -> list[list[int]]:
    """Return the new tokens of each row, without that which ends it.

    Args:
        count: of rows; they are begun in this order.
        options: how many are continued at once, until when.
        begin: runs the rows of these numbers.
        go_on: runs a token (B,) more of rows that have begun.
        score: last hidden states (B, D) -> logits (B, V).
    """
    answers: list[list[int]] = [[] for _ in range(count)]
    stop, ended, most = set(options.eos_token_ids), set[int](), options.rows or count
    waiting = list(range(count))

    def next_rows(room: int) -> Begun:
        first = waiting[:room]
        del waiting[:room]
        begun = begin(first)
        begun.rows = [first[i] for i in begun.rows]
        return begun

    while waiting and options.max_new_tokens > 0:
        running = next_rows(most)
        while True:
            tokens = score(running.last).argmax(-1)
            for row, token in zip(running.rows, tokens.tolist(), strict=True):
                if row not in ended and token not in stop:
                    answers[row].append(token)
                if token in stop or len(answers[row]) == options.max_new_tokens:
                    ended.add(row)
            free = [place for place, row in enumerate(running.rows) if row in ended]
            if len(free) == len(running.rows):
                break
            # Rows begin, and others are copied, several at a time: a few that have ended are run on meanwhile, at a
            # position that any model has; nobody looks at what they give.
            running.position[free] = 0
            new = None
            if len(free) > len(running.rows) // LINGERING:
                if waiting and is_roomy(running.cache):
                    new = next_rows(len(free))
                else:
                    going = [place for place, row in enumerate(running.rows) if row not in ended]
                    running.keep(going)
                    tokens = tokens[going]
            go_on(running, tokens)
            if new is not None:
                running.place(free[: len(new.rows)], new)
    return answers
