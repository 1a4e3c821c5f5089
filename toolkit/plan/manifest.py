"""What a training would learn from, by the manifests alone: cuts, tasks, and the answers if they are there."""

from __future__ import annotations

import json
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.config import Config
from toolkit.data.answers import Answer, Question
from toolkit.data.labels import known_target
from toolkit.data.tasks import choose
from toolkit.data.tokenization import ChatTokenizer
from toolkit.errors import DataError, ToolkitError
from toolkit.interfaces import Loss
from toolkit.stages.card import about_llm
from toolkit.stages.imitate import answering, asked_examples, asked_requests, chat_tokenizer, training_tasks
from toolkit.stages.paths import answers_folder
from toolkit.stages.train import training_examples
from toolkit.types import Example


@dataclass(frozen=True)
class KeptLLM:
    """A text LLM that is known by the folder of its answers, and by nothing else."""

    key: str
    max_new_tokens: int

    def answer(self, questions: Seq[Question]) -> list[Answer]:
        """Refuse.

        Raises:
            DataError: always, since there are no weights.
        """
        raise DataError(f"{len(questions)} answers are not there, and a plan has no LLM that could give them")


@dataclass(frozen=True)
class Manifest:
    """The examples of a training."""

    examples: list[Example]
    tokenizer: ChatTokenizer | None
    """None where the decoder's files are not on this machine"""
    unknown: int
    """tokens that an answer is reckoned at; 0 where all answers are there"""
    notes: tuple[str, ...]


def read_manifest(config: Config, loss: Loss) -> Manifest:
    """Read what a training would learn from.

    Raises:
        ToolkitError: nothing is prepared, or the tasks cannot be read.
    """
    tokenizer, notes = tokenizer_of(config)
    examples, note = _answered(config, loss)
    unknown = 0
    if examples is None:
        examples, unknown = asked(config, asked_examples(config, "train")), config.imitate.max_new_tokens
        note = f"answers are not there: each is reckoned at {unknown} tokens, the most it can have, and none is dropped"
    return Manifest(examples, tokenizer, unknown, (*notes, *([note] if note else [])))


def tokenizer_of(config: Config) -> tuple[ChatTokenizer | None, tuple[str, ...]]:
    """Return the decoder's tokenizer, or None where it is not on this machine; and what to say about it."""
    try:
        return chat_tokenizer(config), ()
    except (ToolkitError, OSError):
        return None, (
            f"no tokenizer of {config.decoder['model']} here: 4 characters are reckoned a token, and batches "
            "of a training differ by it",
        )


def _answered(config: Config, loss: Loss) -> tuple[list[Example] | None, str]:
    """Return what training learns, None if answers are missing, and what to say about it."""
    most = config.imitate.max_new_tokens
    if "student" not in loss.needs:
        return training_examples(config, KeptLLM("", most), loss), ""
    folder = answers_folder(config, "train", "")
    served = config.imitate.engine == "openai"
    keys = [answering(config).key] if served else _likeliest(config, folder)
    for key in keys:
        try:
            found = training_examples(config, KeptLLM(key, most), loss)
        except DataError:  # this one was not asked all of it: another recipe, perhaps
            continue
        return found, f"answers of {folder / key}" + (f", one of {len(keys)} LLMs" if len(keys) > 1 else "")
    return None, ""


def _likeliest(config: Config, folder: Path) -> list[str]:
    """Return the keys of the LLMs that have answered: first those whose cards tell of this one, then the latest."""
    about = about_llm(config)

    def rank(store: Path) -> tuple[bool, float]:
        card = store.with_name("card.json")
        told = json.loads(card.read_text(encoding="utf-8")) if card.exists() else {}
        return all(told.get(name) == value for name, value in about.items()), store.stat().st_mtime

    return [store.parent.name for store in sorted(folder.glob("*/store.jsonl"), key=rank, reverse=True)]


def asked(config: Config, examples: dict[str, Example]) -> list[Example]:
    """Return what training utterances are asked, with the targets that need no LLM."""
    tasks = training_tasks(config)
    made = []
    for request in asked_requests(config, examples, choose(tasks, config.imitate.use)):
        example = request.example(examples)
        known = known_target(tasks[request.task], request, example)
        made.append(replace(example, prompt=request.prompt, response=known or ""))
    return made
