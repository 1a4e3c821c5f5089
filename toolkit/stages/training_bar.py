"""The training's progress bar: how far the schedule is, by steps or by time, and how long is left."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl

from toolkit.stages.progress import Bar, bar
from toolkit.training.module import ImitationModule

_PARTS = 1000
"""the schedule is shown in thousandths, since it may be bounded by steps or by minutes"""


class TrainingBar(pl.Callback):
    """Shows step, loss and development loss beside a bar with time left."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._open = ExitStack()
        self._bar: Bar | None = None
        self._shown = 0

    def on_train_start(self, trainer: Any, module: ImitationModule) -> None:
        """Open the bar where the schedule stands."""
        if trainer.is_global_zero:
            self._shown = int(_PARTS * module.progress())
            self._bar = self._open.enter_context(bar(self._title, _PARTS, self._shown))

    def on_train_batch_end(self, trainer: Any, module: ImitationModule, *rest: Any) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        done = int(_PARTS * module.progress())
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k in ("loss", "dev_loss")}
        note = " ".join(f"{k} {v:.2f}" for k, v in sorted(metrics.items(), reverse=True))
        self._bar.advance(done - self._shown, f"step {trainer.global_step} {note}")
        self._shown = done

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Close the bar before the error is shown."""
        self._close()

    def _close(self) -> None:
        self._open.close()
        self._bar = None
