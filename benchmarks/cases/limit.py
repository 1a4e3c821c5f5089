"""Training against the limit: the matrix products that the frozen LLM cannot be spared."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

from benchmarks.options import Options
from benchmarks.results import Figure
from benchmarks.sides.limit import ATTENTION, Needed
from benchmarks.turns import Turn, alternate, processor, ratios, summary, take
from benchmarks.workload import Spec

FIGURES = ("train_vs_limit",)


def run(options: Options) -> list[Figure]:
    """Measure; each turn of ours says what the limit has to multiply."""
    best = options.best("ours")
    path = options.work / "needed.json"
    specs = {"ours": best, "limit": replace(best, needed=str(path))}

    def turn_of(side: str, spec: Spec) -> Turn:
        turn = take(side, spec)
        if side == "ours":
            path.write_text(json.dumps({**turn.extra, "utterances": turn.utterances}))
        return turn

    turn_of("ours", best)  # the limit may begin a repeat
    turns = alternate(specs, options.repeats, options.say, turn_of)
    found = json.loads(path.read_text())
    needed = Needed(*(sum(column) for column in zip(*found["needed"], strict=True)))
    linear = ratios(turns, "ours", "limit", _speed_without_attention)
    return [
        Figure(
            "train_vs_limit",
            "rows a second of `toolkit train`, by those of the bare matrix products of the frozen LLM",
            ratios(turns, "ours", "limit", lambda turn: turn.speed),
            unit="of 1",
            goal=0.6,
            notes=[
                *summary(turns, specs),
                processor(turns, "ours", "limit"),
                f"by the linear layers alone, without attention's products: {statistics.median(linear):.3f} "
                f"({min(linear):.3f} to {max(linear):.3f})",
                f"products for {needed.positions} positions forward and backward, {needed.supervised} of them "
                f"supervised, of {needed.rows} rows behind {needed.before} positions of prefixes, of which "
                f"{found['prefix']} are distinct and run once",
                f"padding that ours ran: {100 * found['padding']:.1f} % of its positions",
            ],
            raw={"seconds": {side: [turn.seconds for turn in each] for side, each in turns.items()}},
        )
    ]


def _speed_without_attention(turn: Turn) -> float:
    """Rows a second of the limit's linear layers alone; those of ours as they are."""
    spent: float = turn.extra.get(ATTENTION, 0.0)
    return turn.utterances / (turn.seconds - spent)
