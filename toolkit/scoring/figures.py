"""Figures by name: `agreement.held_out_wording`, `wer.seen_wording`, `deaf.agreement.held_out_task.title`.

A figure is a measure, the group of prompts it is over, and if need be one task; of the model, or of a control.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import ConfigError, unknown_name
from toolkit.scoring.answers import GROUPS, SYSTEMS, Paired, pair
from toolkit.scoring.compute import Measured, measure
from toolkit.scoring.detectors import DETECTORS
from toolkit.scoring.metrics import TRANSCRIPTION
from toolkit.scoring.normalisation import normaliser
from toolkit.scoring.scorecard import ALL

MODEL = "speech"
METRICS = {"wer": "WER", "agreement": "agreement", "accuracy": "accuracy"} | {
    name: name.replace("_", " ") for name in DETECTORS
}
LOWER = ("wer", *DETECTORS)
"""measures of which less is better"""


@dataclass(frozen=True)
class Figure:
    """What a column is of."""

    metric: str
    group: str
    task: str
    system: str = MODEL

    @classmethod
    def named(cls, name: str) -> Figure:
        """Read a name.

        Raises:
            ConfigError: it names no measure or no group.
        """
        parts = name.split(".")
        system = parts.pop(0) if parts[0] in SYSTEMS else MODEL
        metric = parts[0]
        if metric not in METRICS:
            raise unknown_name("measure", metric, list(METRICS))
        if metric in DETECTORS:
            if len(parts) > 1:
                raise ConfigError(f"'{name}': {metric} is counted over all answers, and is said without a group")
            return cls(metric, ALL, ALL, system)
        if len(parts) not in (2, 3):
            raise ConfigError(f"'{name}' is no figure: say MEASURE.GROUP or MEASURE.GROUP.TASK, as wer.seen_wording")
        if parts[1] not in GROUPS:
            raise unknown_name("group of prompts", parts[1], list(GROUPS))
        every = TRANSCRIPTION if metric == "wer" else ALL
        return cls(metric, parts[1], parts[2] if len(parts) == 3 else every, system)

    @property
    def lower_is_better(self) -> bool:
        """Whether less is better."""
        return self.metric in LOWER

    @property
    def plain_title(self) -> str:
        """What it is, in words, without an arrow."""
        of = f"{self.system}: " if self.system != MODEL else ""
        on = f" on {self.task}" if self.task not in (ALL, TRANSCRIPTION) else ""
        over = f", {GROUPS[self.group]}" if self.group != ALL else ""
        return f"{of}{METRICS[self.metric]}{on}{over}"

    @property
    def title(self) -> str:
        """What it is, with an arrow to where it is better; a control has none, for nobody wants it good or bad."""
        arrow = "" if self.system != MODEL else " ↓" if self.lower_is_better else " ↑"
        return self.plain_title + arrow


@dataclass(frozen=True)
class Answered:
    """One system's answers with all that is counted in them."""

    paired: Paired
    measured: dict[Figure, Measured]


def count(files: Mapping[str, Path], normaliser_name: str) -> Answered:
    """Read the answers of one experiment and count all that any figure needs.

    Args:
        files: system -> its answers.
        normaliser_name: for word error rates.

    Raises:
        DataError: the files do not answer the same questions.
    """
    paired = pair(files)
    found = measure(paired, normaliser(normaliser_name))
    return Answered(paired, {Figure(each.metric, each.group, each.task, each.system): each for each in found})
