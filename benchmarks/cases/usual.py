"""Training against the usual loop: speed and memory, each side in its best precision; gradients in fp32."""

from __future__ import annotations

from dataclasses import asdict, replace

from benchmarks.options import Options
from benchmarks.results import Figure
from benchmarks.turns import MEGABYTE, Turn, alternate, processor, ratios, summary, take

FIGURES = ("train_vs_usual", "memory_vs_usual")
COSINE, NORM = 0.9999, 0.001
"""how near our gradient in fp32 must be to that of the usual loop"""


def run(options: Options) -> list[Figure]:
    """Measure."""
    specs = {side: options.best(side) for side in ("ours", "usual")}
    turns = alternate(specs, options.repeats, options.say)
    found = take("equal", replace(options.spec(), batch=min(options.batch, 8))).extra
    cosine, norm = found["ours fp32"]
    likeness = [
        f"gradient of the adapter against the usual loop's in fp32: {name}: cosine {c:.6f}, norm {n:.4f} times"
        for name, (c, n) in ((name, found[name]) for name in ("ours fp32", "ours bf16", "usual autocast", "usual bf16"))
    ]
    for line in likeness:
        options.say(f"  {line}")
    fast = Figure(
        "train_vs_usual",
        "rows a second of `toolkit train`, by those of the usual loop",
        ratios(turns, "ours", "usual", lambda turn: turn.speed),
        goal=4.0,
        equal=cosine >= COSINE and abs(norm - 1) <= NORM,
        notes=[
            *summary(turns, specs),
            processor(turns, "ours", "usual"),
            *likeness,
        ],
        raw={"turns": {side: [_plain(turn) for turn in each] for side, each in turns.items()}, "equal": found},
    )

    def steps(turn: Turn) -> float:
        return (turn.most - turn.before) / MEGABYTE

    above = {side: max(steps(turn) for turn in each) for side, each in turns.items()}
    small = Figure(
        "memory_vs_usual",
        "peak memory of the training process (ru_maxrss), by that of the usual loop at the same batch",
        ratios(turns, "ours", "usual", lambda turn: turn.peak),
        better="lower",
        goal=0.5,
        notes=[
            f"{side}: {max(turn.peak for turn in each) / MEGABYTE:.0f} MB at the most, in the steps "
            f"{max(turn.most for turn in each) / MEGABYTE:.0f} MB, {above[side]:.0f} MB above models and data"
            for side, each in turns.items()
        ],
    )
    return [fast, small]


def _plain(turn: Turn) -> dict[str, object]:
    return {key: value for key, value in asdict(turn).items() if key != "extra"}
