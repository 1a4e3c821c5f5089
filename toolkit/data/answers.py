"""The text LLM's answers: content-addressed, so that nothing is ever generated twice.

An answer depends on the model, the prompt, the transcripts and the length limit; their digest is its key.
The store is a file of JSON lines, appended batch by batch; an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

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


class AnswerStore:
    """Answers of one text LLM, kept in `<folder>/store.jsonl`.

    Args:
        folder: `<data_dir>/<split>/answers/<fingerprint of the LLM>`.
        max_new_tokens: the length limit of all answers asked of this store.
    """

    def __init__(self, folder: Path, max_new_tokens: int) -> None:
        self.folder = folder
        self.path = folder / "store.jsonl"
        self.max_new_tokens = max_new_tokens
        self._answers: dict[str, Answer] = {}
        if self.path.exists():
            self._load()

    def get(self, question: Question) -> Answer | None:
        """Return the stored answer, or None."""
        return self._answers.get(question.key(self.max_new_tokens))

    def missing(self, questions: Seq[Question]) -> list[Question]:
        """Return the questions that have no answer yet, each once: by prompt, so that batches can share it.

        Long ones first, so that batches are even.
        """
        unknown = {q.key(self.max_new_tokens): q for q in questions if self.get(q) is None}
        return sorted(unknown.values(), key=lambda q: (-len(q.prompt), q.prompt, -q.cost, q.text))

    def fill(self, questions: Seq[Question], generate: Generate, batch_size: int) -> Iterator[int]:
        """Generate and keep what is missing, batch by batch; yields the number of answers of each batch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        todo = self.missing(questions)
        self._mend()
        with self.path.open("a", encoding="utf-8") as file:
            for start in range(0, len(todo), batch_size):
                batch = todo[start : start + batch_size]
                lines = []
                for question, answer in zip(batch, generate(batch), strict=True):
                    key = question.key(self.max_new_tokens)
                    self._answers[key] = answer
                    row = {
                        "key": key, "prompt": question.prompt, "text": question.text,
                        "answer": answer.text, "complete": answer.complete,
                    }  # fmt: skip
                    if question.others:
                        row["others"] = [text for text, _ in question.others]
                    lines.append(json.dumps(row, ensure_ascii=False) + "\n")
                file.write("".join(lines))
                file.flush()
                yield len(batch)

    def _load(self) -> None:
        """Read the store; a last line that was cut by an interruption, or is being written, is passed over."""
        content = self.path.read_bytes()
        for line in content[: content.rfind(b"\n") + 1].decode("utf-8").split("\n")[:-1]:
            row = json.loads(line)
            self._answers[row["key"]] = Answer(row["answer"], row["complete"])

    def _mend(self) -> None:
        """Take a cut last line out of the file, so that the next one is not glued to it. For the writer only."""
        if self.path.exists():
            with self.path.open("r+b") as file:
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)
