"""The usual loop: what a speech LLM's training script does when nothing is reused.

In every step Whisper hears 30 seconds of padding, rows are padded to the longest of a batch that chance has made, the
prompt is run for every row, and Hugging Face computes the loss from `labels=`, with logits for all positions over the
whole vocabulary. Same weights, same adapter, same optimiser. Its audio lies in memory already, decoded.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from benchmarks.turns import Steps, Turn
from benchmarks.workload import BF16, FP32, Spec, Workload, config_of, trained
from toolkit.models.speech_llm import SpeechLLM
from toolkit.models.splice import cut_frames
from toolkit.types import Padded, Sequence, TokenPiece

MODES = (FP32, "autocast", BF16)
IGNORED = -100


class UsualLoop:
    """The loss of a batch as scripts compute it.

    Args:
        model: encoder, adapter and LLM.
        mode: `fp32`; `autocast`, bf16 over fp32 weights; `bf16`, an LLM whose weights are bf16.
    """

    def __init__(self, model: SpeechLLM, mode: str = FP32) -> None:
        self.model = model
        self.mode = mode
        self.lm: Any = model.decoder.lm

    def loss(self, audio: Padded, sequences: Seq[Sequence]) -> Tensor:
        """Return the mean loss of the supervised tokens; `audio` (B, samples), one piece of speech a row."""
        with self._precision(), stock_attention(self.lm):
            with torch.no_grad():
                frames = self.model.encoder(audio)
            # Seconds become frames by the rule of the splice, or the last embedding of a row could be missing in ours.
            heard_frames = cut_frames(frames, sequences, self.model.encoder.frame_shift)
            speech = self.model.adapter(heard_frames).unpad()
            embedding = self.lm.get_input_embeddings()
            rows, labels = [], []
            for heard, sequence in zip(speech, sequences, strict=True):
                pieces, known = [], []
                for piece in sequence:
                    if isinstance(piece, TokenPiece):
                        ids = torch.tensor(piece.token_ids)
                        pieces.append(embedding(ids))
                        known.append(ids if piece.supervised else torch.full_like(ids, IGNORED))
                    else:
                        pieces.append(heard.to(embedding.weight.dtype))
                        known.append(torch.full((len(heard),), IGNORED))
                rows.append(torch.cat(pieces))
                labels.append(torch.cat(known))
            inputs = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            targets = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
            mask = torch.arange(inputs.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
            output = self.lm(inputs_embeds=inputs, attention_mask=mask.long(), labels=targets, use_cache=False)
        return output.loss  # type: ignore[no-any-return]

    def _precision(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.mode == FP32 else torch.autocast("cpu", torch.bfloat16)


@contextmanager
def stock_attention(lm: Any) -> Iterator[None]:
    """Have the model attend as transformers has it, inside the `with`: ours has changed that."""
    ours = lm.config._attn_implementation
    lm.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        lm.set_attn_implementation(ours)


def random_batches(count: int, size: int, steps: int, seed: int) -> list[list[int]]:
    """Return the rows of each step: all of them in a random order, and again."""
    rng = random.Random(seed)
    order: list[int] = []
    while len(order) < size * steps:
        order += rng.sample(range(count), count)
    return [order[start : start + size] for start in range(0, size * steps, size)]


def run(spec: Spec) -> Turn:
    """Train by the usual loop."""
    work, config = Workload.of(spec), config_of(spec)
    loop, parameters = UsualLoop(work.model, spec.mode), trained(work.model)
    optimizer = torch.optim.AdamW(parameters, lr=config.train.learning_rate, betas=(0.9, 0.98))
    batches = random_batches(len(work.examples), spec.batch, spec.steps + 1, config.seed)
    data = [(work.samples(rows), [work.sequences[row] for row in rows]) for rows in batches]
    work.model.train()
    steps = Steps()
    steps.begin(work.model)
    for audio, sequences in data:
        optimizer.zero_grad(set_to_none=True)
        loss = loop.loss(audio, sequences)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.train.clip)
        optimizer.step()
        steps.end(len(sequences), float(loss.detach()))
    return steps.turn()
