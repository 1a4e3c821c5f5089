"""How cost grows: time and memory of training against utterances, length of the answers, and vocabulary.

Ours and the usual loop, both in fp32; log-log plots with the slope of each line in `plots/`. Slope 1 is as much again
for as much more, 0 is none. The memory is what the steps take above the models and the data.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path

from benchmarks.options import Options
from benchmarks.results import Figure
from benchmarks.turns import MEGABYTE, Turn, alternate
from benchmarks.workload import Spec, config_of, folder
from toolkit.assets.locate import locate

FIGURES = ("growth_utterances", "growth_response", "growth_vocabulary")
SIDES = ("ours", "usual")
ANSWER = 24
"""tokens of an answer where these do not vary"""
TASK = "imitate.use=[continue]"


@dataclass
class Axis:
    """What varies, and what was found at each of its values."""

    name: str
    label: str
    values: list[int]
    specs: list[Spec]


def run(options: Options) -> list[Figure]:
    """Measure, and plot."""
    figures = []
    for axis in axes(options):
        turns: dict[str, list[list[Turn]]] = {side: [] for side in SIDES}
        for value, spec in zip(axis.values, axis.specs, strict=True):
            options.say(f"  {axis.label}: {value}")
            for side, each in alternate(dict.fromkeys(SIDES, spec), options.repeats, options.say).items():
                turns[side].append(each)
        figures.append(_figure(axis, turns, options.out / "plots"))
    return figures


def axes(options: Options) -> list[Axis]:
    """Return what varies: each three values, four times (vocabulary: twice) as much each."""
    least, batch = (4, 4) if options.quick else (8, 8)
    overrides = (*options.overrides, TASK, "imitate.tasks_per_cut=1")

    def spec(utterances: int, response: int, *more: str) -> Spec:
        given = (*overrides, *more)
        data = folder(options.data, options.work, utterances, given, response)
        return Spec(str(data), batch=batch, steps=max(utterances // batch, 1), overrides=given)

    counts = [least * 2 * times for times in (1, 4, 16)]
    lengths = [8, 32, 128]
    vocabularies = [_wider(config_of(Spec("-", overrides=overrides)).decoder["model"], k, options) for k in (1, 2, 4)]
    return [
        Axis("utterances", "utterances", counts, [spec(count, ANSWER) for count in counts]),
        Axis("response", "tokens of an answer", lengths, [spec(counts[0], length) for length in lengths]),
        Axis(
            "vocabulary", "tokens of the vocabulary", [size for size, _ in vocabularies],
            [spec(counts[0], ANSWER, f"decoder.model={path}") for _, path in vocabularies],
        ),
    ]  # fmt: skip


def slope(xs: Seq[float], ys: Seq[float]) -> float:
    """Return the slope of the line through the logarithms, by least squares."""
    points = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True)]
    mean_x, mean_y = (sum(column) / len(points) for column in zip(*points, strict=True))
    rise: float = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return rise / math.fsum((x - mean_x) ** 2 for x, _ in points)


def _wider(model: str, times: int, options: Options) -> tuple[int, str]:
    """Return the size and the place of an LLM whose vocabulary is so many times as large."""
    from transformers import AutoModelForCausalLM

    place = Path(locate(model))
    lm = AutoModelForCausalLM.from_pretrained(place, dtype="float32")
    size = lm.config.vocab_size * times
    target = options.work / f"llm-{size}"
    if times > 1 and not (target / "config.json").exists():
        shutil.copytree(place, target, ignore=shutil.ignore_patterns("*.safetensors", "config.json", "asset.json"))
        lm.resize_token_embeddings(size, mean_resizing=False)
        lm.save_pretrained(target)
    return size, str(target if times > 1 else place)


def _figure(axis: Axis, turns: Mapping[str, Seq[Seq[Turn]]], plots: Path) -> Figure:
    best = {side: [min(each, key=lambda turn: turn.seconds) for each in found] for side, found in turns.items()}
    seconds = {side: [turn.seconds for turn in found] for side, found in best.items()}
    memory = {
        # At least one: a step that fits in what loading has left free takes nothing, which has no logarithm.
        side: [max(1.0, *((turn.most - turn.before) / MEGABYTE for turn in each)) for each in found]
        for side, found in turns.items()
    }
    xs = [float(value) for value in axis.values]
    _plot(axis, {"seconds": seconds, "MB above the models": memory}, plots)
    repeats = range(len(turns["ours"][0]))
    return Figure(
        f"growth_{axis.name}",
        f"slope of our training time against {axis.label}, on logarithmic axes",
        [slope(xs, [each[repeat].seconds for each in turns["ours"]]) for repeat in repeats],
        unit="(slope)",
        better="lower",
        notes=[
            f"{side}: time {slope(xs, seconds[side]):.2f}, memory {slope(xs, memory[side]):.2f}; at "
            + ", ".join(
                f"{value}: {s:.1f} s, {m:.0f} MB"
                for value, s, m in zip(axis.values, seconds[side], memory[side], strict=True)
            )
            for side in SIDES
        ],
        raw={"x": axis.values, "seconds": seconds, "megabytes": memory},
    )


def _plot(axis: Axis, panels: Mapping[str, Mapping[str, Seq[float]]], folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    folder.mkdir(parents=True, exist_ok=True)
    figure, places = plt.subplots(1, len(panels), figsize=(9, 3.6), constrained_layout=True)
    for place, (title, lines) in zip(places, panels.items(), strict=True):
        for side, ys in lines.items():
            label = f"{side}, slope {slope([float(x) for x in axis.values], ys):.2f}"
            place.loglog(axis.values, ys, marker="o", label=label)
        place.set_xticks(axis.values, [f"{value:,}" for value in axis.values])
        place.minorticks_off()
        place.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        place.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        place.set_xlabel(axis.label)
        place.set_title(title)
        place.legend()
        place.grid(visible=True, alpha=0.3)
    figure.savefig(folder / f"growth_{axis.name}.png", dpi=110)
    plt.close(figure)
