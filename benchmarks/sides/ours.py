"""Our side: the train stage itself, on cached frames, watched from outside.

`watching` stands around each training step of Lightning's module: it counts what the step was given and what of it
the LLM had to compute, and leaves the step as it is.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.sides.limit import Needed
from benchmarks.turns import Steps, Turn
from benchmarks.workload import Spec, config_of
from toolkit.models.speech_llm import SpeechLLM
from toolkit.models.splice import frame_range, placed_spans
from toolkit.stages import train
from toolkit.training.module import ImitationModule
from toolkit.types import Batch, TokenPiece


@dataclass
class Watch:
    """What was seen of the steps of a training."""

    steps: Steps = field(default_factory=Steps)
    ended: float | None = None
    """when the last step was over; None before the first"""
    outside: float = 0.0
    """seconds between steps: waiting for data, and Lightning"""
    needed: list[Needed] = field(default_factory=list)
    """of each forward pass after the first step"""
    prefixes: set[tuple[int, ...]] = field(default_factory=set)
    """frozen prefixes seen after the first step"""
    positions: int = 0
    """run by the LLM, padding included"""
    padding: int = 0


@contextmanager
def watching() -> Iterator[Watch]:
    """Watch every training step inside the `with`."""
    watch, step = Watch(), ImitationModule.training_step

    @functools.wraps(step)
    def watched(module: ImitationModule, batches: list[Batch], index: int) -> None:
        first = watch.ended is None
        if watch.ended is None:
            watch.steps.begin(module.model)
            _count_padding(module.model, watch)
        else:
            watch.outside += time.perf_counter() - watch.ended
        step(module, batches, index)
        loss = module.trainer.callback_metrics["loss"]
        watch.steps.end(sum(len(batch.ids) for batch in batches), float(loss))
        if not first:
            for batch in batches:
                watch.needed.append(needed(module.model, batch))
                watch.prefixes |= {_prefix(batch, row) for row in range(len(batch.ids))}
        watch.ended = time.perf_counter()

    ImitationModule.training_step = watched  # type: ignore[method-assign, assignment]
    try:
        yield watch
    finally:
        ImitationModule.training_step = step  # type: ignore[method-assign]


def run(spec: Spec) -> Turn:
    """Train by the stage."""
    with tempfile.TemporaryDirectory() as exp, watching() as watch:
        train.run(config_of(spec, Path(exp)))
    turn = watch.steps.turn(
        needed=watch.needed, prefix=distinct_tokens(watch.prefixes), padding=watch.padding / watch.positions
    )
    turn.extra["outside"] = watch.outside / turn.seconds
    return turn


def needed(model: SpeechLLM, batch: Batch) -> Needed:
    """Return what the LLM must compute of a batch.

    The last token of a row is predicted and predicts nothing, so no position of it is needed.
    """
    assert batch.frames is not None
    shift, lengths = model.encoder.frame_shift, batch.frames.lengths.tolist()
    placed = placed_spans(batch.sequences, len(lengths), batch.recordings)
    ranges = [frame_range(span, shift, lengths[number]) for number, span in placed]
    speech = model.adapter.output_lengths(torch.tensor([end - start for start, end in ranges]))
    text = [piece for row in batch.sequences for piece in row if isinstance(piece, TokenPiece)]
    supervised = sum(len(piece.token_ids) for piece in text if piece.supervised)
    prefixes = sum(len(_prefix(batch, row)) for row in range(len(batch.sequences)))
    tokens = sum(len(piece.token_ids) for piece in text)
    rows = len(batch.sequences)
    return Needed(int(speech.sum()) + tokens - prefixes - rows, supervised, rows, prefixes)


def distinct_tokens(prefixes: set[tuple[int, ...]]) -> int:
    """Return how many positions prefixes have when what several begin with is counted once."""
    return len({prefix[:end] for prefix in prefixes for end in range(1, len(prefix) + 1)})


def _prefix(batch: Batch, row: int) -> tuple[int, ...]:
    first = batch.sequences[row][0]
    return first.token_ids if isinstance(first, TokenPiece) and not first.supervised else ()


def _count_padding(model: SpeechLLM, watch: Watch) -> None:
    def count(module: torch.nn.Module, arguments: Any, named: dict[str, Any]) -> None:
        inputs: Tensor = named["inputs_embeds"]
        mask: Tensor | None = named.get("attention_mask")
        if mask is not None and mask.dim() == 2:
            watch.padding += int((mask[:, -inputs.shape[1] :] == 0).sum())
        watch.positions += inputs.shape[0] * inputs.shape[1]

    model.decoder.lm.base_model.register_forward_pre_hook(count, with_kwargs=True)  # type: ignore[union-attr]
