"""Training against a peer from a package: transformers' Voxtral by its Trainer, with the very same weights."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.options import Options
from benchmarks.results import Figure
from benchmarks.turns import alternate, processor, ratios, summary, take

FIGURES = ("train_vs_peer",)
NEAR = 1e-4
"""how near the losses of one batch must be, both hearing 30 seconds"""


def run(options: Options) -> list[Figure]:
    """Measure."""
    specs = {side: options.best(side) for side in ("ours", "peer")}
    turns = alternate(specs, options.repeats, options.say)
    found = take("equal", replace(options.spec(), batch=min(options.batch, 8))).extra
    ours, theirs = found["loss of ours"], found["loss of the peer"]
    return [
        Figure(
            "train_vs_peer",
            "rows a second of `toolkit train`, by those of transformers' Voxtral under its Trainer",
            ratios(turns, "ours", "peer", lambda turn: turn.speed),
            goal=8.0,
            equal=abs(ours - theirs) <= NEAR,
            notes=[
                *summary(turns, specs),
                processor(turns, "ours", "peer"),
                f"loss of one batch in fp32, both hearing all 30 seconds: ours {ours:.6f}, the peer's {theirs:.6f}",
                "the peer's LLM reads the embeddings of all 30 seconds, ours those of the speech",
            ],
            raw={"seconds": {side: [turn.seconds for turn in each] for side, each in turns.items()}},
        )
    ]
