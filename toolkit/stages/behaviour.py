"""Behaviour: how far a prompt of speech moves the LLM's next word, and whether its answers to text are what they were.

The gap is measured along the text LLM's own answer to the true transcript, as in distillation: both ways of prompting
are given that answer token by token, and their distributions of the next one are compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.config import Config
from toolkit.data.answers import Answer, AnswerStore, Generate, Question
from toolkit.models.build import best_device
from toolkit.models.speech_llm import SpeechLLM
from toolkit.models.splice import splice
from toolkit.scoring.behaviour import Gap, Known
from toolkit.stages.decode import Asked, recognised_questions, spoken_batch, spoken_plans, spoken_questions
from toolkit.stages.encode import speech_of
from toolkit.stages.fill import fill
from toolkit.stages.imitate import TextLLM, spread, transcripts
from toolkit.stages.progress import bar
from toolkit.types import Example, Outputs, Plan, Sequence, TextSegment


@dataclass(frozen=True)
class Forced:
    """A question as a system is given it, and the answer that it is led along."""

    given: Question
    true: Question
    """the same about the true transcript"""
    answer: Answer
    """the text LLM's to `true`"""

    @property
    def key(self) -> str:
        """Return the digest of what decides the divergence, beside the models."""
        content = [self.given.prompt, self.given.said, self.true.said, self.answer.text, self.answer.complete]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


Student = Callable[[Seq[Forced]], Outputs]
"""Questions -> the next-token scores at their M answer tokens, as a system is prompted."""


def behaviour_gaps(
    config: Config, asked: Asked, model: SpeechLLM | None, llm: TextLLM, truths: Seq[Answer], mark: str
) -> list[Gap]:
    """Measure the gap of every system, question by question; what this very checkpoint was measured at is kept.

    An answer without a token (cut before its first) has no row.
    """
    texts = transcripts(asked.examples)
    true = [Question.of(request, texts) for request in asked.requests]
    store = GapStore(asked.folder / f"gaps-{mark}" / "store.jsonl")
    gaps = []
    for system in asked.systems:
        heard = asked.other if system == "deaf" else asked.itself
        if not heard:
            continue
        if system == "cascade" or model is None:
            given, student = recognised_questions(config, asked, heard), text_student(llm)
        else:
            given, student = spoken_questions(asked, heard), _speech_student(config, asked, model, llm)
        led = [Forced(*row) for row in zip(given, true, truths, strict=True)]
        _fill(store, led, llm, student, config.decode.batch_size, f"behaviour gap of {system}")
        for request, forced in zip(asked.requests, led, strict=True):
            kl, tokens = store.known[forced.key]
            if tokens:
                gaps.append(Gap(system, request.cut, request.task, request.group, request.prompt, kl, tokens))
    return gaps


def text_student(llm: TextLLM) -> Student:
    """Return the text LLM itself, prompted with what it is given in text."""

    def outputs(led: Seq[Forced]) -> Outputs:
        return _in_text(llm, [(forced.given, forced.answer) for forced in led])

    return outputs


@torch.no_grad()
def divergences(llm: TextLLM, student: Student, led: Seq[Forced]) -> list[tuple[float, int]]:
    """Return KL(text-prompted || as prompted) in nats summed over each answer's tokens, and how many those are."""
    counts = [_tokens(llm, forced.answer) for forced in led]
    heard, told = student(led), _in_text(llm, [(forced.true, forced.answer) for forced in led])
    pairs = zip(heard.split(counts), told.split(counts), strict=True)
    return [(_divergence(a.logits, b.logits), count) for (a, b), count in zip(pairs, counts, strict=True)]


class GapStore:
    """Divergences by the digest of what they are of, appended batch by batch: an interrupted run goes on.

    Args:
        path: JSON lines; a last line that an interruption has cut is taken out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, tuple[float, int]] = {}
        if path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content:
                path.write_bytes(whole)
            self.known = {key: (kl, tokens) for key, kl, tokens in map(json.loads, whole.splitlines())}

    def add(self, keys: Seq[str], found: Seq[tuple[float, int]]) -> None:
        """Keep the divergences of a batch."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps([key, *row]) + "\n" for key, row in zip(keys, found, strict=True)))
        self.known.update(zip(keys, found, strict=True))


class Knowledge:
    """The same questions in text alone to the untouched LLM and to the trained model's, in the same batches.

    Args:
        asked: of which the questions are some, spread over all.
        count: how many; 0 is none.
        batch_size: questions answered together.
    """

    def __init__(self, asked: Asked, count: int, batch_size: int) -> None:
        self.requests = spread(asked.requests, count)
        texts = transcripts(asked.examples)
        self.questions = [Question.of(request, texts) for request in self.requests]
        self.batch_size = batch_size
        # Of a store that knew some of them already the batches would be others.
        digest = hashlib.sha256(json.dumps([q.key(0) for q in self.questions]).encode()).hexdigest()[:12]
        self.folder = asked.folder / f"knowledge-{digest}"

    def ask(self, generate: Generate, mark: str, max_new_tokens: int) -> list[Answer]:
        """Return the answers of whoever `mark` stands for."""
        store = AnswerStore(self.folder / mark, max_new_tokens)
        if self.questions:
            fill(store, self.questions, generate, self.batch_size, "answer text alone")
        found = (store.get(question) for question in self.questions)
        return [answer for answer in found if answer is not None]

    def compare(self, untouched: Seq[Answer], trained: Seq[Answer]) -> Iterator[Known]:
        """Yield each question with both answers to it."""
        for request, before, after in zip(self.requests, untouched, trained, strict=True):
            same = before == after
            yield Known(request.cut, request.task, request.group, request.prompt, before.text, after.text, same)


def _speech_student(config: Config, asked: Asked, model: SpeechLLM, llm: TextLLM) -> Student:
    speech = speech_of(config, model.encoder, asked.split)

    def outputs(led: Seq[Forced]) -> Outputs:
        rows = [_row(llm, forced.given, spoken_plans(forced.given), forced.answer) for forced in led]
        batch = spoken_batch(speech, [forced.given for forced in led], rows).to(best_device())
        found = model(batch, frozenset({"student"})).student
        assert isinstance(found, Outputs)
        return found

    return outputs


def _fill(store: GapStore, led: Seq[Forced], llm: TextLLM, student: Student, batch_size: int, title: str) -> None:
    """Measure what is missing, with a bar; rows that open alike share a batch."""
    missing = {forced.key: forced for forced in led if forced.key not in store.known}
    for key in [key for key, forced in missing.items() if not _tokens(llm, forced.answer)]:
        store.add([key], [(0.0, 0)])
        del missing[key]
    todo = sorted(missing.values(), key=lambda f: (f.given.prompt, f.given.cost, f.key))
    with bar(title, len(todo)) as progress:
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            store.add([forced.key for forced in batch], divergences(llm, student, batch))
            progress.advance(len(batch))


def _in_text(llm: TextLLM, asked: Seq[tuple[Question, Answer]]) -> Outputs:
    """Score the tokens of the answers after questions in text, as the frozen text LLM does."""
    device = next(llm.decoder.parameters()).device
    sequences = [_row(llm, q, [(TextSegment(text),) for text, _ in q.said], answer) for q, answer in asked]
    rows = splice(sequences, [], llm.decoder.embed, device)
    with llm.decoder.as_text_llm():
        return llm.decoder.outputs(
            [row.embeddings for row in rows], [row.positions for row in rows], [row.prefix for row in rows]
        )


def _row(llm: TextLLM, question: Question, plans: Seq[Plan], answer: Answer) -> Sequence:
    """Make the row of a question and the answer that it is led along, tokenised as in training."""
    example = Example("", 0.0, "", prompt=question.prompt, response=answer.text, response_complete=answer.complete)
    return llm.tokenizer.sequence(example, *plans)


def _tokens(llm: TextLLM, answer: Answer) -> int:
    """Count the tokens of an answer, with the end of the turn where it ended by itself."""
    return len(llm.tokenizer.encode(answer.text)) + answer.complete


def _divergence(student: Tensor, teacher: Tensor) -> float:
    """Return the divergence of (m, V) scores in nats, summed over the m tokens; exactly 0 for equal scores."""
    given, wanted = (functional.log_softmax(logits.float(), dim=-1) for logits in (student, teacher))
    return float(functional.kl_div(given, wanted, reduction="sum", log_target=True))
