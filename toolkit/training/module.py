"""The training step: loss sums divided by the step's true number of targets, over micro-batches and ranks."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from toolkit.data.seeding import seeded
from toolkit.errors import DataError
from toolkit.interfaces import Loss
from toolkit.models.encoder_training import check_reached
from toolkit.models.speech_llm import SpeechLLM
from toolkit.models.splice import spans_of
from toolkit.training.checkpoint import trainable_state
from toolkit.training.ranks import Ranks, Share, sum_gradients, told_by_all, trained_of
from toolkit.training.waste import Waste
from toolkit.types import Batch


class ImitationModule(pl.LightningModule):
    """Trains what is trainable of a speech LLM.

    Args:
        model: the speech LLM.
        loss: says what it needs; nothing else is computed.
        learning_rate: at the peak.
        weight_decay: of AdamW.
        steps: optimiser steps of the whole schedule.
        max_seconds: time for the whole schedule; 0 is no limit. The schedule follows whichever is nearer
            its end, so that a slow machine trains less and still finishes its schedule.
        warmup: share of the schedule in which the learning rate rises.
        clip: norm to clip gradients to; 0 does not clip.
        seed: of dropout, with the step and the rank.
        log_path: JSON lines for the report.
        phase: name of this training in the log.
        encoder_learning_rate: at the peak, for what is trained of the encoder; None is that of all else.
        waited: returns for how many seconds data was waited for so far.
    """

    def __init__(
        self,
        model: SpeechLLM,
        loss: Loss,
        *,
        learning_rate: float,
        weight_decay: float,
        steps: int,
        max_seconds: float,
        warmup: float,
        clip: float,
        seed: int,
        log_path: Path,
        phase: str,
        encoder_learning_rate: float | None = None,
        waited: Callable[[], float] = lambda: 0.0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False
        self.model = model
        self.loss = loss
        self.learning_rate: float = learning_rate
        self.weight_decay = weight_decay
        self.steps = steps
        self.max_seconds = max_seconds
        self.warmup = warmup
        self.clip = clip
        self.seed = seed
        self.log_path = log_path
        self.phase = phase
        self.encoder_learning_rate = learning_rate if encoder_learning_rate is None else encoder_learning_rate
        self.elapsed = 0.0
        self.waste = Waste(lambda: (int(model.decoder.rows_run), model.decoder.padded_run), waited)
        self._tick = time.monotonic()
        self._reached = False
        self._validation: list[tuple[Tensor, int]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over what is trained; no decay on vectors and scalars."""
        named = [(name.startswith("encoder."), p) for name, p in self.model.named_parameters() if p.requires_grad]
        peaks = {False: self.learning_rate, True: self.encoder_learning_rate}
        groups: list[dict[str, Any]] = []
        for part in sorted({False, *(mine for mine, _ in named)}):
            trained, peak = [p for mine, p in named if mine == part], peaks[part]
            matrices, vectors = ([p for p in trained if (p.dim() > 1) == large] for large in (True, False))
            groups.append({"params": matrices, "weight_decay": self.weight_decay, "peak": peak})
            groups.append({"params": vectors, "weight_decay": 0.0, "peak": peak})
        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.98))

    def progress(self) -> float:
        """Return how much of the schedule is done, 0 to 1: by steps or by time, whichever is more."""
        by_time = self.elapsed / self.max_seconds if self.max_seconds else 0.0
        return float(min(max(self.global_step / self.steps, by_time), 1.0))

    def rate(self, peak: float) -> float:
        """Return the learning rate now, of what has `peak`: linear warm-up, then a cosine to a twentieth."""
        done = self.progress()
        if done < self.warmup:
            return float(peak * max(done / self.warmup, 1 / self.steps))
        fall = (done - self.warmup) / max(1 - self.warmup, 1e-9)
        cosine = 0.5 * (1 + math.cos(math.pi * fall))
        return float(peak * (0.05 + 0.95 * cosine))

    def on_train_start(self) -> None:
        """Switch on what dropout is trained, which Lightning leaves as it finds it; start the clock of this process."""
        self.model.train()
        self._tick = time.monotonic()

    def training_step(self, batches: list[Batch], index: int) -> None:
        """Take one optimiser step over its micro-batches."""
        optimizer: Any = self.optimizers()
        rate = self.rate(self.learning_rate)
        for group in optimizer.param_groups:
            group["lr"] = self.rate(group.get("peak", self.learning_rate))  # older checkpoints say no peak
        optimizer.zero_grad(set_to_none=True)
        # Dropout is a function of the step too, so that an interrupted run goes on as if it had not been.
        torch.manual_seed(seeded(self.seed, "dropout", self.global_step, self.global_rank).getrandbits(63))
        outputs = []
        self.waste.begin()
        for batch, counts in self._passes(batches):
            output = self.loss(self.model(batch, self.loss.needs))
            # Summed gradients; they are divided below by a count that is only known at the end.
            if output.total.requires_grad:  # text alone teaches nothing
                self.manual_backward(output.total if counts else 0 * output.total)
            if counts:
                outputs.append((output.total.detach(), output.count, output.parts))
        heard = any(spans_of(row) for batch in batches for row in batch.sequences)
        if heard and not self._reached:
            check_reached(self.model.encoder)
            self._reached = True
        parameters = trained_of(self.model)
        mine = self._share(batches, outputs, parameters)
        everybody = told_by_all(mine)
        # One clock for all ranks, that of the slowest, or they would end at different steps.
        self.elapsed = everybody[0].elapsed + max(share.seconds for share in everybody)
        self._tick = time.monotonic()
        count = sum(share.count for share in everybody)
        if count == 0:
            raise DataError(f"nothing is supervised in step {self.global_step}: {_names(everybody)}")
        sum_gradients(parameters, frozenset.intersection(*(share.idle for share in everybody)))
        trained = [p for p in parameters if p.grad is not None]
        for p in trained:
            assert p.grad is not None
            p.grad.mul_(1 / count)
        norm = torch.nn.utils.clip_grad_norm_(trained, self.clip or math.inf)
        if not bool(torch.isfinite(norm)):
            raise DataError(
                f"the gradient of step {self.global_step} is not finite; nothing was changed by it. "
                f"Look at these utterances, or lower train.learning_rate: {_names(everybody)}"
            )
        optimizer.step()
        loss = sum(share.total for share in everybody) / count
        names = sorted({name for share in everybody for name in share.parts})
        self.log("loss", loss, prog_bar=True)
        row = {
            "loss": loss,
            "learning_rate": rate,
            "parts": {name: sum(share.parts.get(name, 0.0) for share in everybody) / count for name in names},
        }
        self.write_log({**row, **self.waste.end(mine.seconds), **_balance(everybody)})
        if self.max_seconds and self.elapsed >= self.max_seconds:
            self.trainer.should_stop = True

    def validation_step(self, batch: Batch, index: int) -> None:
        """Sum the loss of a development batch."""
        output = self.loss(self.model(batch, self.loss.needs))
        self._validation.append((output.total.detach(), output.count))

    def on_validation_epoch_end(self) -> None:
        """Log the development loss; looking at it does not count as training time."""
        if not self.trainer.sanity_checking:
            mine = float(sum(t for t, _ in self._validation)), sum(c for _, c in self._validation)
            everybody = told_by_all(mine)
            loss = sum(total for total, _ in everybody) / max(sum(count for _, count in everybody), 1)
            self.log("dev_loss", loss, prog_bar=True)
            self.write_log({"validation": {"loss": loss}})
        self._validation.clear()
        self._tick = time.monotonic()

    def write_log(self, row: dict[str, Any]) -> None:
        """Append a line to the training log."""
        if self.trainer.is_global_zero:
            head = {"phase": self.phase, "step": self.global_step, "seconds": round(self.elapsed, 4)}
            with self.log_path.open("a") as file:
                file.write(json.dumps({**head, **row}) + "\n")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained, not the frozen models."""
        checkpoint["state_dict"] = {f"model.{k}": v for k, v in trainable_state(self.model).items()}
        checkpoint["elapsed"] = self.elapsed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the clock of the interrupted run."""
        self.elapsed = checkpoint["elapsed"]

    def _passes(self, batches: list[Batch]) -> Iterator[tuple[Batch, bool]]:
        """Return the micro-batches and whether they count.

        Ranks that share the decoder out run it equally often: one that has fewer micro-batches repeats its first in
        vain.

        Raises:
            DataError: one has none.
        """
        strategy = self.trainer.strategy
        equally = isinstance(strategy, Ranks) and strategy.shared_out
        yield from ((batch, not batch.idle) for batch in batches if equally or not batch.idle)
        if equally:
            counts = told_by_all(len(batches))
            if not min(counts):
                raise DataError(
                    f"step {self.global_step} has fewer examples than processes, and with train.strategy=fsdp each "
                    "needs one: take fewer processes, or train.strategy=ddp"
                )
            yield from ((batches[0], False) for _ in range(max(counts) - len(batches)))

    def _share(
        self,
        batches: list[Batch],
        outputs: list[tuple[Tensor, int, Mapping[str, Tensor]]],
        parameters: list[torch.nn.Parameter],
    ) -> Share:
        """Tell what this rank did of a step."""
        names = sorted({name for _, _, parts in outputs for name in parts})
        return Share(
            total=float(sum(total for total, _, _ in outputs)),
            count=sum(count for _, count, _ in outputs),
            parts={name: sum(float(parts[name]) for _, _, parts in outputs if name in parts) for name in names},
            ids=tuple(name for batch in batches if not batch.idle for name in batch.ids),
            idle=frozenset(i for i, p in enumerate(parameters) if p.grad is None),
            elapsed=self.elapsed,
            seconds=time.monotonic() - self._tick,
        )


def _balance(everybody: list[Share]) -> dict[str, float]:
    """Tell how much of the time of a step its ranks work, on average; the rest they wait for the slowest."""
    if len(everybody) == 1:
        return {}
    seconds = [share.seconds for share in everybody]
    return {"balance": round(sum(seconds) / len(seconds) / max(*seconds, 1e-9), 4)}


def _names(everybody: list[Share]) -> str:
    return ", ".join(name for share in everybody for name in share.ids)
