"""How much there is to learn from: from the prepared data, from what is known of LibriSpeech, or as said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from toolkit.config import Config
from toolkit.data.tasks import Task, choose, evaluation_requests, load_tasks
from toolkit.interfaces import Loss
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages.encode import why_audio
from toolkit.stages.imitate import training_tasks
from toolkit.stages.paths import SPLITS, SUMMARY, cuts_path

LIBRISPEECH = {
    "train-clean-100": (100.6, 28_539),
    "train-clean-360": (363.6, 104_014),
    "train-other-500": (496.7, 148_688),
    "dev-clean": (5.4, 2_703),
    "dev-other": (5.3, 2_864),
    "test-clean": (5.4, 2_620),
    "test-other": (5.1, 2_939),
}
"""part of LibriSpeech -> hours (Panayotov et al. 2015, table 1) and utterances (of its transcripts)"""


@dataclass(frozen=True)
class Amount:
    """What a split holds."""

    hours: float
    utterances: int
    source: str
    """where these numbers are from"""

    @property
    def seconds(self) -> float:
        """Mean length of an utterance."""
        return 3600 * self.hours / self.utterances


@dataclass(frozen=True)
class Work:
    """What the stages would do with the data."""

    examples: int
    """that a training sees once an epoch"""
    steps_per_epoch: int
    steps: int
    epochs: float
    cache: int
    """bytes of encoder frames on disk, fp16; 0 where none are kept"""
    answers: dict[str, int]
    """split -> answers that the text LLM is asked for"""
    answer_tokens: int
    """of all of them, at most"""


def amounts(config: Config, hours: float = 0.0, utterances: int = 0) -> dict[str, Amount]:
    """Return what is known of each split; `hours` and `utterances`, where given, are those of train."""
    found = {split: amount for split in SPLITS if (amount := _amount(config, split))}
    if hours and utterances:
        found["train"] = Amount(hours, utterances, "as said")
    return found


def _amount(config: Config, split: str) -> Amount | None:
    summary = cuts_path(config, split).parent / SUMMARY
    if summary.is_file():
        counts = json.loads(summary.read_text())["counts"]
        return Amount(counts["hours"], counts["utterances"], f"prepared in {config.data_dir}")
    parts = config.prepare.splits.get(split, "").split("+")
    if config.prepare.format != "librispeech" or not all(part in LIBRISPEECH for part in parts):
        return None
    hours, utterances = zip(*(LIBRISPEECH[part] for part in parts), strict=True)
    limit = config.prepare.max_utterances or sum(utterances)
    kept = min(limit, sum(utterances))
    return Amount(round(sum(hours) * kept / sum(utterances), 2), kept, "LibriSpeech's own numbers")


def learns_from_answers(loss: Loss) -> bool:
    """Tell whether a loss runs the decoder; the others learn from transcripts alone."""
    return "student" in loss.needs


def trained_tasks(config: Config) -> list[Task]:
    """Return the tasks that a training asks."""
    return choose(training_tasks(config), config.imitate.use)


def work(config: Config, model: SpeechLLM, loss: Loss, there: dict[str, Amount], positions: int) -> Work | None:
    """Count what the stages would do; None where nobody knows how much there is to train on.

    A row has so many `positions` in the mean, for steps that go by them.
    """
    if "train" not in there:
        return None
    answers = _answers(config, there) if learns_from_answers(loss) else {}
    asked = _asked(config, "train", there["train"].utterances)
    tasks = trained_tasks(config)
    examples = there["train"].utterances * (1 + config.encode.copies)
    if learns_from_answers(loss):
        examples = asked * min(config.imitate.tasks_per_cut, len(tasks))
    together = config.train.batch_tokens // positions if config.train.batch_tokens else config.train.batch_size
    per_epoch = examples // max(1, min(together, examples))
    steps = config.train.steps
    return Work(
        examples, per_epoch, steps, steps / per_epoch, _cache(config, model, there),
        answers, sum(answers.values()) * config.imitate.max_new_tokens,
    )  # fmt: skip


def _asked(config: Config, split: str, utterances: int) -> int:
    limits = config.imitate
    limit = {"train": limits.train_utterances, "dev": limits.dev_utterances, "test": limits.test_utterances}[split]
    return min(limit, utterances) if limit else utterances


def _answers(config: Config, there: dict[str, Amount]) -> dict[str, int]:
    tasks, every = trained_tasks(config), load_tasks(Path(config.imitate.tasks))
    by_llm = sum(task.target == "llm" for task in tasks)
    counts = {}
    for split, amount in there.items():
        asked = _asked(config, split, amount.utterances)
        if split == "train":
            per_cut = min(config.imitate.tasks_per_cut, len(tasks)) * by_llm / len(tasks)
            counts[split] = round(asked * per_cut) if config.train.steps else 0
        else:
            few = [str(i) for i in range(8)]  # enough for prompts about several utterances
            per_cut = len(evaluation_requests(few, every)) / len(few)
            counts[split] = round(2 * asked * per_cut)  # about its own transcript, and about another's
    return counts


def _cache(config: Config, model: SpeechLLM, there: dict[str, Amount]) -> int:
    if why_audio(config):
        return 0
    copies = {"train": 1 + config.encode.copies}
    seconds = sum(3600 * amount.hours * copies.get(split, 1) for split, amount in there.items())
    return round(seconds / model.encoder.frame_shift) * model.encoder.output_dim * 2
