"""Imitate: the text LLM answers the transcripts, under many prompts; its answers are what speech must draw.

For training, each utterance is asked some of the training tasks. For dev and test it is asked everything, seen
and held-out wordings and tasks, and so is *another* utterance under the same prompts: that is the zero of the
agreement scale. Nothing is generated twice; answers cut at the length limit are marked. Several processes may
answer together; the end is a data card.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from toolkit.config import Config
from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.cuts import example_of, read_cuts
from toolkit.data.fingerprint import fingerprint
from toolkit.data.journals import Part
from toolkit.data.labels import known_target
from toolkit.data.neighbours import with_neighbours
from toolkit.data.tasks import Request, Task, choose, evaluation_requests, load_tasks, training_requests
from toolkit.data.teacher import Teacher, teacher_of
from toolkit.data.tokenization import ChatTokenizer
from toolkit.errors import ConfigError, DataError
from toolkit.interfaces import Decoder
from toolkit.models.build import best_device, build_decoder
from toolkit.models.splice import splice
from toolkit.stages.card import Subject, write_card
from toolkit.stages.engines import Engine, check_engine, served_llm
from toolkit.stages.fill import fill
from toolkit.stages.filters import check_filters
from toolkit.stages.hypotheses import other_of
from toolkit.stages.paths import SPLITS, answers_folder, cuts_path
from toolkit.stages.processes import helpers
from toolkit.stages.progress import say
from toolkit.stages.targets import join
from toolkit.stages.teacher import keep_teacher
from toolkit.types import Example, GenerationOptions, Sequence, TextSegment, TopK

T = TypeVar("T")


@dataclass(frozen=True)
class TextLLM(Teacher):
    """The frozen decoder, asked in text."""

    decoder: Decoder
    tokenizer: ChatTokenizer
    key: str
    """fingerprint of the model, its chat template and the system prompt"""
    max_new_tokens: int
    rows: int = 0
    """how many questions are answered at once, where more are asked; 0: all"""

    def answer(self, questions: Seq[Question]) -> list[Answer]:
        """Answer a batch of questions as the frozen text LLM."""
        with self.decoder.as_text_llm():
            return self.answer_as_trained(questions)

    def answer_as_trained(self, questions: Seq[Question]) -> list[Answer]:
        """Answer a batch of questions in text, with all that is trained of the decoder having its say."""
        sequences = [
            self.tokenizer.question(q.prompt, *((TextSegment(text),) for text, _ in q.said)) for q in questions
        ]
        device = next(self.decoder.parameters()).device
        rows = splice(sequences, [], self.decoder.embed, device)
        embeddings, prefixes = [row.embeddings for row in rows], [row.prefix for row in rows]
        tokens = self.decoder.generate(embeddings, self.options, prefixes)
        return [Answer(self.tokenizer.decode(t), len(t) < self.max_new_tokens) for t in tokens]

    @torch.no_grad()
    def teach(self, rows: Seq[Sequence], top_k: int) -> list[TopK]:
        """Return the next-token distribution at the supervised positions of each row of text, on the CPU."""
        device = next(self.decoder.parameters()).device
        spliced = splice(rows, [], self.decoder.embed, device)
        embeddings, positions = [row.embeddings for row in spliced], [row.positions for row in spliced]
        prefixes, audio = [row.prefix for row in spliced], [row.audio for row in spliced]
        with self.decoder.as_text_llm():
            outputs = self.decoder.outputs(embeddings, positions, prefixes, audio)
            rows_of = outputs.split([len(p) for p in positions])
            return [TopK.of(own.logits, top_k).to("cpu") for own in rows_of]

    @property
    def options(self) -> GenerationOptions:
        """Return how this LLM generates, in text and in speech alike."""
        return GenerationOptions(self.max_new_tokens, (self.tokenizer.end_of_turn,), self.rows)


def text_llm(config: Config, decoder: Decoder | None = None) -> TextLLM:
    """Build the text side of the decoder that is configured."""
    decoder = decoder or build_decoder(config.decoder).to(best_device())
    tokenizer = chat_tokenizer(config)
    probe = tokenizer.question("a {speech} b", (TextSegment("c"),))
    key = fingerprint({"dtype": config.decoder.get("dtype"), "chat": str(probe)}, decoder.frozen_state())
    return TextLLM(decoder, tokenizer, key, config.imitate.max_new_tokens, config.imitate.batch_size)


def chat_tokenizer(config: Config) -> ChatTokenizer:
    """Return the decoder's tokens and chat template, with the configured markers of speech and text."""
    markers = {"speech_marker": config.speech_marker, "text_marker": config.text_marker}
    return ChatTokenizer(config.decoder["model"], config.system, **markers)


def answering(config: Config, llm: Engine | None = None) -> Engine:
    """Return who answers text: a server, or `llm`, which is built where it is not given."""
    check_engine(config)
    return served_llm(config) if config.imitate.engine == "openai" else llm or text_llm(config)


def run(config: Config) -> dict[str, int]:
    """Answer every prepared split, with `imitate.jobs` processes. Returns the number of answers in use by split.

    Raises:
        ConfigError: `imitate.shard` is no part, there is no such filter, or the engine cannot keep its teacher.
        DataError: nothing is prepared.
    """
    check_engine(config)
    check_filters(config.imitate.filters)
    Part.parse(config.imitate.shard, "imitate.shard")
    with helpers(config, answer_splits, config.imitate.jobs - 1):
        counts, subject = answer_splits(config)
    if subject is not None:
        folder = answers_folder(config, "train", subject.key)
        say(f"imitate: data card: {write_card(config, subject, folder)}")
    return counts


def answer_splits(config: Config) -> tuple[dict[str, int], Subject | None]:
    """Answer what no other process has answered or is at.

    Returns:
        the number of answers in use by split, and what a data card tells of, if all is there to tell.
    """
    part = Part.parse(config.imitate.shard, "imitate.shard")
    tasks, training = load_tasks(Path(config.imitate.tasks)), training_tasks(config)
    trained = choose(training, config.imitate.use)
    llm = answering(config)
    if config.imitate.top_k:
        teacher_of(llm)
    counts: dict[str, int] = {}
    asked: dict[str, list[Request]] = {}
    for split in SPLITS:
        if not cuts_path(config, split).exists() or (split == "train" and not config.train.steps):
            continue  # where nothing is trained, nothing of it is asked
        examples = asked_examples(config, split)
        store = AnswerStore(answers_folder(config, split, llm.key), llm.max_new_tokens)
        if split == "train":
            asked[split] = asked_requests(config, examples, trained)
            questions = training_questions(asked[split], examples, training)
            fill(store, questions, llm.answer, config.imitate.batch_size, f"answer {split}", part, config.imitate.jobs)
            counts[split] = len(questions)
        else:
            asked[split] = evaluation_requests(list(examples), tasks)
            counts[split] = _answer_test(config, llm, store, asked[split], examples, split, part)
        if split == "dev" and config.imitate.train_tasks:  # what a training is watched by
            questions = training_questions(development_requests(config, examples, training), examples, training)
            if store.missing(questions):
                settings = config.imitate
                fill(store, questions, llm.answer, settings.batch_size, "answer dev as trained", part, settings.jobs)
    if not counts:
        raise DataError(f"nothing to answer in {config.data_dir}: run the prepare stage first")
    if not part.whole:
        say(f"imitate: part {part} is answered. When all are, run without imitate.shard, with the store.*.jsonl of all")
        say("         parts in the same folders: that puts them together, keeps the teacher and writes the data card")
    return counts, _learnt(config, llm, {**tasks, **training}, asked) if part.whole and "train" in asked else None


def _learnt(config: Config, llm: Engine, tasks: dict[str, Task], asked: dict[str, list[Request]]) -> Subject:
    """Tell what of the answers is learnt, and keep what the teacher says of it if that is wanted."""
    examples, joined, tokenizer = {}, {}, chat_tokenizer(config)
    for split in asked.keys() & {"train", "dev"}:
        examples[split] = asked_examples(config, split)
        store = AnswerStore(answers_folder(config, split, llm.key), llm.max_new_tokens)
        train = split == "train"
        requests = asked[split] if train else development_requests(config, examples[split], training_tasks(config))
        joined[split] = join(store, requests, examples[split], tasks, config.imitate.filters if train else ())
    for line in joined["train"].report("train"):
        say(f"imitate: {line}")
    if config.imitate.top_k:
        for split in sorted(joined, reverse=True):  # both, for the loss on the development set has a teacher too
            folder = answers_folder(config, split, llm.key)
            keep_teacher(config, teacher_of(llm), tokenizer, folder, joined[split].examples, split)
    return Subject(llm.key, tokenizer, tasks, examples["train"], joined["train"], asked)


def training_tasks(config: Config) -> dict[str, Task]:
    """Read the tasks that may be trained: those of `imitate.train_tasks`, or the same that the tests ask.

    Raises:
        ConfigError: what the tests hold out would be trained.
    """
    tasks = load_tasks(Path(config.imitate.tasks))
    if not config.imitate.train_tasks:
        return tasks
    training = load_tasks(Path(config.imitate.train_tasks))
    held_out = {wording for task in tasks.values() for wording in task.testing}
    for name, task in training.items():
        leaked = sorted(held_out.intersection(task.training))
        if leaked or (name in tasks and tasks[name].held_out and not task.held_out):
            raise ConfigError(
                f"imitate.train_tasks={config.imitate.train_tasks}: the task '{name}' would train what "
                f"imitate.tasks={config.imitate.tasks} holds out: {repr(leaked[0]) if leaked else 'the task itself'}"
            )
    return training


def development_requests(config: Config, examples: dict[str, Example], tasks: dict[str, Task]) -> list[Request]:
    """Return what the development set is asked while training: the trained tasks, in seen wordings."""
    names = {task.name for task in choose(tasks, config.imitate.use)}
    requests = evaluation_requests(list(examples), tasks)
    return [request for request in requests if request.group == "seen_wording" and request.task in names]


def split_examples(config: Config, split: str) -> dict[str, Example]:
    """Read the examples of a split, by id."""
    cuts: list[Any] = read_cuts(cuts_path(config, split))
    return {cut.id: example_of(cut) for cut in cuts}


def asked_examples(config: Config, split: str) -> dict[str, Example]:
    """Return the examples of a split that are asked anything, as `imitate.*_utterances` says."""
    examples = split_examples(config, split)
    limits = config.imitate
    limit = {"train": limits.train_utterances, "dev": limits.dev_utterances, "test": limits.test_utterances}[split]
    return {name: examples[name] for name in spread(sorted(examples), limit or len(examples))}


def asked_requests(config: Config, examples: dict[str, Example], trained: Seq[Task]) -> list[Request]:
    """Return what the training utterances are asked: `train` and `imitate` must not disagree."""
    requests = training_requests(list(examples), trained, config.imitate.tasks_per_cut, config.seed)
    return with_neighbours(requests, transcripts(examples), config.imitate.concatenated, config.seed)


def spread(items: Seq[T], count: int) -> list[T]:
    """Choose `count` items spread evenly over all: a list may stand in the order of its speakers."""
    return [items[i * len(items) // count] for i in range(count)] if count < len(items) else list(items)


def training_questions(requests: Seq[Request], examples: dict[str, Example], tasks: dict[str, Task]) -> list[Question]:
    """Return what the LLM must answer for training: everything but tasks whose target is known."""
    texts = transcripts(examples)
    return [
        Question.of(request, texts)
        for request in requests
        if known_target(tasks[request.task], request, examples[request.cut]) is None
    ]


def transcripts(examples: dict[str, Example], heard: dict[str, str] | None = None) -> dict[str, str]:
    """Return the transcript of each utterance, or of the one that is heard in its place."""
    return {name: examples[name if heard is None else heard[name]].transcript for name in examples}


def _answer_test(
    config: Config,
    llm: Engine,
    store: AnswerStore,
    requests: Seq[Request],
    examples: dict[str, Example],
    split: str,
    part: Part,
) -> int:
    """Answer the transcript (the topline) and, for the zero of the scale, another utterance's transcript."""
    true, other = transcripts(examples), other_of(list(examples))
    questions = [Question.of(r, true) for r in requests]
    if other:
        wrong = transcripts(examples, other)
        questions += [Question.of(r, wrong) for r in requests]
    fill(store, questions, llm.answer, config.imitate.batch_size, f"answer {split}", part, config.imitate.jobs)
    return len(questions)
