"""A plan: what an experiment would take, from its configuration alone."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass
from typing import Any

from toolkit.config import Config
from toolkit.decoders.causal_lm import DTYPES
from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES, TokenAdapter
from toolkit.models.speech_llm import SpeechLLM
from toolkit.plan.corpus import Amount, Work, amounts, learns_from_answers, trained_tasks, work
from toolkit.plan.memory import VOCABULARY, Item, answering_memory, encoding_memory, total, training_memory
from toolkit.plan.rows import Rows, rows_of
from toolkit.plan.sizes import PartSize, model_without_weights, sizes_of
from toolkit.stages.encode import why_audio

GIGA = 10**9
"""bytes of a gigabyte: less than what a GPU of so many has, so that nothing is promised too much"""


@dataclass(frozen=True)
class Question:
    """What is asked beside the configuration."""

    hours: float = 0.0
    """of train; 0 is what is known of the corpus"""
    utterances: int = 0
    """of train; 0 is what is known of the corpus"""
    gpus: int = 1
    """processes of a training"""
    gpu_memory: float = 0.0
    """gigabytes of each; 0 is no limit"""
    tokens: int = 0
    """that a token adapter emits; 0 is the assumption"""
    rate: float = 0.0
    """tokens that the text LLM generates in a second; 0 is not known"""


@dataclass(frozen=True)
class Plan:
    """What an experiment would take."""

    parts: tuple[PartSize, ...]
    rows: Rows
    together: int
    """rows in one forward pass of one process"""
    memory: dict[str, tuple[Item, ...]]
    """stage -> what one process of it needs at its peak"""
    there: dict[str, Amount]
    work: Work | None
    answering_hours: float | None
    """of the text LLM, at most"""
    notes: tuple[str, ...]
    """what is assumed or not known"""
    warnings: tuple[str, ...]
    """what does not fit"""

    def as_json(self) -> dict[str, Any]:
        """Return plain values, with the totals of the memory."""
        return {**asdict(self), "memory_total": {stage: total(items) for stage, items in self.memory.items()}}


def make_plan(config: Config, question: Question) -> Plan:
    """Plan the stages of one experiment; nothing is loaded.

    Raises:
        ToolkitError: it could not be trained, or nobody knows the sizes of a model.
    """
    gpus, size = question.gpus, config.train.batch_size
    if gpus < 1 or (size % gpus and not config.train.batch_tokens):
        raise ConfigError(f"train.batch_size={size} does not divide among {gpus} processes")
    model = model_without_weights(config)
    parts, loss = sizes_of(model, config), LOSSES.build(config.loss)
    there = amounts(config, question.hours, question.utterances)
    mean = there["train"].seconds if "train" in there else 0.0
    rows = rows_of(config, model, trained_tasks(config), mean, answers=learns_from_answers(loss))
    together = _together(config, rows, gpus)
    emits = isinstance(model.adapter, TokenAdapter)
    labels = min(question.tokens or VOCABULARY, model.decoder.vocabulary_size) if emits else 0
    memory = _memory(config, model, parts, rows)
    if config.train.steps:
        train = training_memory(model, parts, config, loss, rows.longest, together, gpus, labels)
        memory = {"train": train, **memory}
    done = work(config, model, loss, there, rows.mean.tokens or rows.mean.embeddings)
    hours = done.answer_tokens / question.rate / 3600 if done and question.rate else None
    notes = _notes(config, rows, done, labels if not question.tokens else 0)
    return Plan(parts, rows, together, memory, there, done, hours, notes, _warnings(memory, question.gpu_memory))


def _together(config: Config, rows: Rows, gpus: int) -> int:
    """Return how many of the longest rows there are in a forward pass at most."""
    given = config.train
    if not (given.batch_tokens or given.micro_batch_tokens):
        return min(given.micro_batch_size or given.batch_size, given.batch_size // gpus)
    # Rows without a decoder are as long as their speech, and one that is above the budget is alone.
    longest = rows.longest.tokens or rows.longest.embeddings
    return max(1, (given.micro_batch_tokens or -(-given.batch_tokens // gpus)) // longest)


def _memory(config: Config, model: SpeechLLM, parts: Seq[PartSize], rows: Rows) -> dict[str, tuple[Item, ...]]:
    """Estimate the stages that train nothing."""
    encoder, adapter, decoder = parts
    size = DTYPES[config.decoder.get("dtype", "fp32")].itemsize
    answering = decoder.weights if config.decoder.get("quantise") else size * decoder.frozen + decoder.trained_weights
    longest, memory = rows.longest, {}
    if not why_audio(config):
        memory["encode"] = encoding_memory(model, encoder.weights, longest.frames, config.encode.batch_size)
    if longest.prompt:
        text = longest.prompt + longest.spoken + config.imitate.max_new_tokens
        memory["imitate"] = answering_memory(model.decoder, config, answering, text, config.imitate.batch_size)
        everything = encoder.weights + adapter.weights + answering
        memory["decode"] = answering_memory(model.decoder, config, everything, longest.tokens, config.decode.batch_size)
    return memory


def _notes(config: Config, rows: Rows, done: Work | None, labels: int) -> tuple[str, ...]:
    notes = []
    if not rows.exact:
        notes.append("how many embeddings come out depends on what is said; the rate is the most there can be")
    if labels:
        notes.append(f"{labels:,} tokens in the transcripts are assumed (--tokens)")
    if done is None:
        notes.append("nobody knows how much there is to train on: prepare the corpus, or say --hours and --utterances")
    if not config.train.steps:
        notes.append("nothing is trained (train.steps=0)")
    return tuple(notes)


def _warnings(memory: dict[str, tuple[Item, ...]], most: float) -> tuple[str, ...]:
    keys = {
        "train": "train.micro_batch_size",
        "encode": "encode.batch_size",
        "decode": "decode.batch_size",
    }
    return tuple(
        f"{stage} needs about {total(items) / GIGA:.1f} GB, and there are {most:g}: "
        f"lower {keys.get(stage, 'imitate.batch_size')}, or take smaller models"
        for stage, items in memory.items()
        if most and total(items) > most * GIGA
    )
