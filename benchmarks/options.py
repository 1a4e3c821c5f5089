"""What a run of the benchmarks is told, and what its cases share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.sides import peer, usual
from benchmarks.turns import fastest
from benchmarks.workload import BF16, FP32, Spec, config_of, folder
from toolkit.config import Config

MODES = {"ours": (FP32, BF16), "usual": usual.MODES, "peer": peer.MODES}
"""of each side, the precisions among which its best is found"""


@dataclass
class Options:
    """Settings of a run."""

    data: Path
    """`data` of egs/mini"""
    work: Path
    """where data folders are made and kept"""
    out: Path
    """where plots go"""
    repeats: int = 3
    utterances: int = 64
    """of the training split; each is asked two tasks, so there are twice as many rows"""
    batch: int = 16
    quick: bool = False
    exp: Path | None = None
    """the experiment whose checkpoint generates; None looks for one beside `data`"""
    overrides: tuple[str, ...] = ()
    """of the configuration"""
    _data: Path | None = None
    _best: dict[str, Spec] = field(default_factory=dict)

    def say(self, line: str) -> None:
        """Tell how it goes."""
        print(line, flush=True)

    def spec(self) -> Spec:
        """Return a turn over all rows once, in fp32; the data folder is made or looked at once a run."""
        if self._data is None:
            self._data = folder(self.data, self.work, self.utterances, self.overrides)
        steps = max(2 * self.utterances // self.batch, 1)
        return Spec(str(self._data), batch=self.batch, steps=steps, overrides=self.overrides)

    def config(self) -> Config:
        """Return the configuration of a turn, for what is not trained."""
        return config_of(self.spec())

    def best(self, side: str) -> Spec:
        """Return the spec of a side in the precision in which it is fastest here; looked for once a run."""
        if side not in self._best:
            self._best[side] = fastest(side, self.spec(), MODES[side], self.say)
        return self._best[side]

    def settings(self) -> dict[str, object]:
        """Return what decides the figures."""
        chosen = {"repeats": self.repeats, "utterances": self.utterances, "batch": self.batch, "quick": self.quick}
        return {**chosen, **({"overrides": ",".join(self.overrides)} if self.overrides else {})}
