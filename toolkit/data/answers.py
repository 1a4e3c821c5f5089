"""The text LLM's answers: content-addressed, so that nothing is ever generated twice.

An answer depends on the model, the prompt, the transcripts and the length limit; their digest is its key. The store
is a file of JSON lines. Several processes may fill it at once; the file is the same whatever they were, and however
often they were interrupted.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from toolkit.data.journals import WHOLE, Journal, Journals, Part, Row
from toolkit.data.tasks import Request


@dataclass(frozen=True)
class Question:
    """A prompt with `{speech}`, and the text that stands in for it."""

    prompt: str
    text: str
    """the transcript; or, where speech is asked, the id of the utterance"""
    duration: float = 0.0
    """seconds, where speech is asked"""
    others: tuple[tuple[str, float], ...] = ()
    """text and duration of what stands in for `{speech2}`, `{speech3}` and so on"""

    @classmethod
    def of(
        cls, request: Request, texts: Mapping[str, str], durations: Mapping[str, float] = MappingProxyType({})
    ) -> Question:
        """Ask a request, with what stands in for each of its utterances by their ids."""
        (text, duration), *others = [(texts[name], durations.get(name, 0.0)) for name in request.utterances]
        return cls(request.prompt, text, duration, tuple(others))

    @property
    def said(self) -> tuple[tuple[str, float], ...]:
        """Text and duration of what stands in for each slot, in the order of their numbers."""
        return ((self.text, self.duration), *self.others)

    @property
    def cost(self) -> float:
        """About how many tokens and embeddings the row has."""
        return len(self.prompt) / 4 + sum(12.5 * duration or len(text) / 4 for text, duration in self.said)

    def key(self, max_new_tokens: int) -> str:
        """Return the digest under which the answer is kept."""
        others = [text for text, _ in self.others]
        content = json.dumps([self.prompt, self.text, max_new_tokens, *others]).encode()
        return hashlib.sha256(content).hexdigest()[:24]


@dataclass(frozen=True)
class Answer:
    """What the LLM said."""

    text: str
    complete: bool
    """False where it was cut at the length limit"""


Generate = Callable[[Seq[Question]], list[Answer]]

POLL = 0.1
"""seconds between two looks at what others, who have claimed what is left, have made"""


class AnswerStore:
    """Answers of one text LLM, settled in `<folder>/store.jsonl`, on their way there in journals beside it.

    Args:
        folder: `<data_dir>/<split>/answers/<fingerprint of the LLM>`.
        max_new_tokens: the length limit of all answers asked of this store.
    """

    def __init__(self, folder: Path, max_new_tokens: int) -> None:
        self.folder = folder
        self.path = folder / "store.jsonl"
        self.max_new_tokens = max_new_tokens
        self._answers: dict[str, Answer] = {}
        self._settled: set[str] = set()
        self._journals = Journals(folder)
        self._refresh()

    def get(self, question: Question) -> Answer | None:
        """Return the stored answer, or None."""
        return self._answers.get(question.key(self.max_new_tokens))

    def missing(self, questions: Seq[Question], batch_size: int = 1, part: Part = WHOLE) -> list[Question]:
        """Return the questions of a part that have no answer yet, each once: by prompt, so that batches can share it.

        Long ones first, so that batches are even.
        """
        plan = self._plan(questions)
        keys = [key for batch in _batches(list(plan), batch_size, part) for key in batch]
        return [plan[key] for key in keys if key not in self._answers]

    def fill(self, questions: Seq[Question], generate: Generate, batch_size: int, part: Part = WHOLE) -> Iterator[int]:
        """Generate and keep what is missing, batch by batch; yields the number of answers that have come.

        Batches are cut from all that was not settled at first, so an interrupted run goes on with the very batches it
        would have had. What another process has claimed is waited for, and made here should that process end.
        """
        whole = self._plan(questions)
        batches = _batches(list(whole), batch_size, part)
        plan = {key: whole[key] for batch in batches for key in batch}
        if plan.keys() - self._answers.keys():
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._journals.open(part) as journal:
                yield from self._work(plan, batches, journal, generate)
        if part.whole:
            self.settle(questions)

    def settle(self, questions: Seq[Question]) -> None:
        """Put the answers to these questions in `store.jsonl`, in the order in which one process would have."""
        if not self._journals.journals():
            return
        with self._journals.lock():
            self._refresh()
            plan = {key: question for key, question in self._plan(questions).items() if key in self._answers}
            self._journals.settle([_row(key, question, self._answers[key]) for key, question in plan.items()])
            self._settled.update(plan)
            self._journals.clear(self._settled)

    def _work(
        self, plan: Mapping[str, Question], batches: Seq[Seq[str]], journal: Journal, generate: Generate
    ) -> Iterator[int]:
        """Answer batch after batch, then again those that others were at, until none is left."""
        while batches:
            before, waiting = len(self._answers), []
            for batch in batches:
                count, theirs = self._answer(plan, batch, journal, generate)
                if theirs:
                    waiting.append(batch)
                if count:
                    yield count
            if waiting and len(self._answers) == before:
                time.sleep(POLL)
            batches = waiting

    def _answer(
        self, plan: Mapping[str, Question], batch: Seq[str], journal: Journal, generate: Generate
    ) -> tuple[int, bool]:
        """Answer what nobody has answered or claimed of a batch.

        Returns:
            how many answers of the plan are new, here or from others; and whether others are at some of the batch.
        """
        if all(key in self._answers for key in batch):
            return 0, False
        with self._journals.lock():
            new = self._refresh() & plan.keys()
            claimed = self._journals.claimed(journal)
            unknown = [key for key in batch if key not in self._answers]
            mine = [key for key in unknown if key not in claimed]
            if mine:
                journal.claim(mine)
        if mine:
            answers = dict(zip(mine, generate([plan[key] for key in mine]), strict=True))
            journal.write([_row(key, plan[key], answer) for key, answer in answers.items()])
            self._answers.update(answers)
        return len(new) + len(mine), len(mine) < len(unknown)

    def _plan(self, questions: Seq[Question]) -> dict[str, Question]:
        """Return the questions that are not settled by their keys, in the order in which they are asked."""
        keyed = {question.key(self.max_new_tokens): question for question in questions}
        order = sorted(keyed.items(), key=lambda i: (-len(i[1].prompt), i[1].prompt, -i[1].cost, i[1].text))
        return {key: question for key, question in order if key not in self._settled}

    def _refresh(self) -> set[str]:
        """Read what has come since; returns the keys that are new."""
        new = set()
        for row, settled in self._journals.news():
            if row["key"] not in self._answers:
                new.add(row["key"])
            self._answers[row["key"]] = Answer(row["answer"], row["complete"])
            if settled:
                self._settled.add(row["key"])
        return new


def _batches(keys: Seq[str], size: int, part: Part) -> list[Seq[str]]:
    """Cut keys into batches, and return those of a part: every so many-th, so that parts take about as long."""
    return [keys[start : start + size] for start in range(0, len(keys), size)][part.number - 1 :: part.of]


def _row(key: str, question: Question, answer: Answer) -> Row:
    row = {
        "key": key, "prompt": question.prompt, "text": question.text,
        "answer": answer.text, "complete": answer.complete,
    }  # fmt: skip
    return {**row, "others": [text for text, _ in question.others]} if question.others else row
