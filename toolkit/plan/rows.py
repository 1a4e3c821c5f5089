"""How long the rows are that the decoder reads: speech by the adapter's own length formula, text by assumption."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch

from toolkit.config import Config
from toolkit.data.tasks import Task
from toolkit.models.speech_llm import SpeechLLM

SPOKEN = 3.5
"""tokens said in a second of read speech: 2.7 words, 1.3 tokens to each; an assumption of ours"""
CHARACTERS = 4
"""of a token of a prompt, as the training stage reckons; an assumption of ours"""
TEMPLATE = 30
"""tokens that a chat template puts around a turn; an assumption of ours"""
UNKNOWN_SECONDS = 10.0
"""mean utterance of a corpus that nobody has counted; an assumption of ours"""


@dataclass(frozen=True)
class Row:
    """One utterance and what is asked about it."""

    seconds: float
    frames: int
    """of the encoder"""
    embeddings: int
    """of the adapter, at most"""
    spoken: int
    """tokens of the transcript"""
    prompt: int
    """tokens of the wording and of the chat template; 0 where the decoder is not run"""
    answer: int
    """supervised tokens, the end of the turn too"""
    tokens: int
    """of the row that the decoder reads, at most: its speech or its text, whichever is longer"""


@dataclass(frozen=True)
class Rows:
    """Rows of the mean utterance and of the longest."""

    mean: Row
    longest: Row
    frame_rate: float
    """frames a second"""
    rate: float
    """embeddings a second of the mean utterance, at most"""
    exact: bool
    """whether that is what comes out; else it depends on what is said"""


def rows_of(config: Config, model: SpeechLLM, tasks: Seq[Task], seconds: float, *, answers: bool) -> Rows:
    """Measure rows.

    Args:
        config: says how long an utterance and an answer may be.
        model: without weights will do.
        tasks: that are trained.
        seconds: of the mean utterance; 0 if nobody knows.
        answers: whether the decoder is run.
    """
    longest = min(config.prepare.max_duration, model.encoder.max_duration)
    mean = min(seconds or UNKNOWN_SECONDS, longest)
    rows = [_row(config, model, tasks, s, answers=answers, most=s == longest) for s in (mean, longest)]
    rate = rows[0].embeddings / mean
    return Rows(rows[0], rows[1], 1 / model.encoder.frame_shift, rate, type(model.adapter).exact_lengths)


def _row(config: Config, model: SpeechLLM, tasks: Seq[Task], seconds: float, *, answers: bool, most: bool) -> Row:
    samples = torch.tensor([round(seconds * model.encoder.sampling_rate)])
    frames = model.encoder.output_lengths(samples)
    embeddings = int(model.adapter.output_lengths(frames)[0])
    spoken = round(SPOKEN * seconds)
    if not answers:
        return Row(seconds, int(frames[0]), embeddings, spoken, 0, 0, 0)
    wordings = [len(wording.replace("{speech}", "")) / CHARACTERS for task in tasks for wording in task.training]
    prompt = TEMPLATE + round(max(wordings) if most else sum(wordings) / len(wordings))
    given = config.imitate.max_new_tokens
    targets = [given if task.target == "llm" else spoken for task in tasks]
    answer = 1 + round(max(targets) if most else sum(targets) / len(targets))
    length = prompt + max(embeddings, spoken) + answer
    return Row(seconds, int(frames[0]), embeddings, spoken, prompt, answer, length)
