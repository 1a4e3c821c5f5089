"""What must be equal on both sides, on one batch: gradients of ours and the usual loop, losses of ours and the peer.

Not timed. In fp32 the frames of ours come from the cache, which keeps them in fp16, and still the gradients agree.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

import torch
from torch import Tensor

from benchmarks.sides.peer import collate, free_token, inputs_of, mel_of, voxtral
from benchmarks.sides.usual import UsualLoop, random_batches
from benchmarks.turns import Turn
from benchmarks.workload import BF16, FP32, Spec, Workload, config_of, gradient
from toolkit.interfaces import LOSSES
from toolkit.stages.encode import frame_cache
from toolkit.types import Batch, Padded, SpeechSegment


def run(spec: Spec) -> Turn:
    """Compare; `extra` holds the cosines, the ratios of norms and the losses."""
    rows = random_batches(len(Workload.of(spec).examples), spec.batch, 1, 0)[0]
    return Turn(0.0, 0.0, len(rows), extra={**gradients(spec, rows), **losses(spec, rows)})


def gradients(spec: Spec, rows: Seq[int]) -> dict[str, Any]:
    """Return cosine and ratio of norms of gradients on the adapter, each against the usual loop's in fp32."""
    exact, rounded = (Workload.of(Spec(**{**vars(spec), "mode": mode})) for mode in (FP32, BF16))
    reference = usual_gradient(exact, rows, FP32)
    return {
        "ours fp32": likeness(our_gradient(exact, spec, rows), reference),
        "ours bf16": likeness(our_gradient(rounded, spec, rows), reference),
        "usual autocast": likeness(usual_gradient(exact, rows, "autocast"), reference),
        "usual bf16": likeness(usual_gradient(rounded, rows, BF16), reference),
    }


def losses(spec: Spec, rows: Seq[int]) -> dict[str, Any]:
    """Return the mean loss of ours and of the peer in fp32, both of them hearing all 30 seconds of each row."""
    work = Workload.of(Spec(**{**vars(spec), "mode": FP32}))
    audio = free_token(work.model, work.sequences)
    peer = voxtral(work.model, audio)
    data = [inputs_of(work.model, work.audio[work.examples[row].id], work.sequences[row], audio) for row in rows]
    with torch.no_grad():
        theirs = float(peer(**collate(data)).loss)
        ours = float(our_loss(work, whole_window(work, rows)))
    return {"loss of ours": ours, "loss of the peer": theirs}


def usual_gradient(work: Workload, rows: Seq[int], mode: str) -> Tensor:
    """Return the gradient of the usual loop."""
    work.model.zero_grad(set_to_none=True)
    loss = UsualLoop(work.model, mode).loss(work.samples(rows), [work.sequences[row] for row in rows])
    loss.backward()
    return gradient(work.model)


def our_gradient(work: Workload, spec: Spec, rows: Seq[int]) -> Tensor:
    """Return our gradient, on frames from the cache."""
    cache = frame_cache(config_of(spec), work.model.encoder, "train")
    frames = Padded.of([cache[work.examples[row].id] for row in rows])
    batch = Batch(
        tuple(work.examples[row].id for row in rows), tuple(work.sequences[row] for row in rows), frames=frames
    )
    work.model.zero_grad(set_to_none=True)
    our_loss(work, batch).backward()
    return gradient(work.model)


def our_loss(work: Workload, batch: Batch) -> Tensor:
    """Return our loss of a batch, divided by its supervised tokens as the training step does."""
    loss = LOSSES.build({"name": "cross_entropy"})
    output = loss(work.model(batch, loss.needs))
    total: Tensor = output.total / output.count
    return total


@torch.no_grad()
def whole_window(work: Workload, rows: Seq[int]) -> Batch:
    """Return rows in which the speech is the whole window of Whisper, padding and all, as the peer hears it."""
    encoder: Any = work.model.encoder
    mel = torch.stack([mel_of(work.model, work.audio[work.examples[row].id]) for row in rows])
    frames = encoder.whisper(mel).last_hidden_state
    sequences = [
        tuple(
            SpeechSegment(0.0, encoder.max_duration) if isinstance(p, SpeechSegment) else p for p in work.sequences[i]
        )
        for i in rows
    ]
    lengths = torch.full((len(rows),), frames.shape[1])
    return Batch(tuple(work.examples[row].id for row in rows), tuple(sequences), frames=Padded(frames, lengths))


def likeness(a: Tensor, b: Tensor) -> list[float]:
    """Return the cosine of two gradients, and the norm of the first by that of the second."""
    a, b = a.double(), b.double()
    return [float(a @ b / (a.norm() * b.norm())), float(a.norm() / b.norm())]
