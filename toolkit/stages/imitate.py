"""Imitate: the text LLM answers the transcripts, under many prompts; its answers are what speech must draw.

For training, each utterance is asked some of the training tasks. For dev and test it is asked everything, seen
and held-out wordings and tasks, and so is *another* utterance under the same prompts: that is the zero of the
agreement scale. Nothing is generated twice; answers cut at the length limit are marked.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from toolkit.config import Config
from toolkit.data.answers import Answer, AnswerStore, Generate, Question
from toolkit.data.cuts import example_of, read_cuts
from toolkit.data.fingerprint import fingerprint
from toolkit.data.labels import known_target
from toolkit.data.neighbours import with_neighbours
from toolkit.data.tasks import Request, Task, choose, evaluation_requests, load_tasks, training_requests
from toolkit.data.tokenization import ChatTokenizer
from toolkit.errors import ConfigError, DataError
from toolkit.interfaces import Decoder
from toolkit.models.build import best_device, build_decoder
from toolkit.models.splice import splice
from toolkit.stages.hypotheses import other_of
from toolkit.stages.paths import SPLITS, answers_folder, cuts_path
from toolkit.stages.progress import bar, say
from toolkit.types import Example, GenerationOptions, TextSegment

T = TypeVar("T")


@dataclass(frozen=True)
class TextLLM:
    """The frozen decoder, asked in text."""

    decoder: Decoder
    tokenizer: ChatTokenizer
    key: str
    """fingerprint of the model, its chat template and the system prompt"""
    max_new_tokens: int

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

    @property
    def options(self) -> GenerationOptions:
        """Return how this LLM generates, in text and in speech alike."""
        return GenerationOptions(self.max_new_tokens, (self.tokenizer.end_of_turn,))


def text_llm(config: Config, decoder: Decoder | None = None) -> TextLLM:
    """Build the text side of the decoder that is configured."""
    decoder = decoder or build_decoder(config.decoder).to(best_device())
    markers = {"speech_marker": config.speech_marker, "text_marker": config.text_marker}
    tokenizer = ChatTokenizer(config.decoder["model"], config.system, **markers)
    probe = tokenizer.question("a {speech} b", (TextSegment("c"),))
    key = fingerprint({"dtype": config.decoder.get("dtype"), "chat": str(probe)}, decoder.frozen_state())
    return TextLLM(decoder, tokenizer, key, config.imitate.max_new_tokens)


def run(config: Config) -> dict[str, int]:
    """Answer every prepared split. Returns the number of answers in use by split."""
    tasks, training = load_tasks(Path(config.imitate.tasks)), training_tasks(config)
    trained = choose(training, config.imitate.use)
    llm = text_llm(config)
    counts = {}
    for split in SPLITS:
        if not cuts_path(config, split).exists() or (split == "train" and not config.train.steps):
            continue  # where nothing is trained, nothing of it is asked
        examples = asked_examples(config, split)
        store = AnswerStore(answers_folder(config, split, llm.key), llm.max_new_tokens)
        if split == "train":
            requests = asked_requests(config, examples, trained)
            questions = training_questions(requests, examples, training)
            fill(store, questions, llm.answer, config.imitate.batch_size, f"answer {split}")
            counts[split] = len(questions)
        else:
            requests = evaluation_requests(list(examples), tasks)
            counts[split] = _answer_test(config, llm, store, requests, examples, split)
        if split == "dev" and config.imitate.train_tasks:  # what a training is watched by
            requests = development_requests(config, examples, training)
            questions = training_questions(requests, examples, training)
            if store.missing(questions):
                fill(store, questions, llm.answer, config.imitate.batch_size, "answer dev as trained")
    if not counts:
        raise DataError(f"nothing to answer in {config.data_dir}: run the prepare stage first")
    return counts


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


def fill(store: AnswerStore, questions: Seq[Question], generate: Generate, batch_size: int, title: str) -> None:
    """Answer what is missing, with a bar; say so when nothing is."""
    missing = len(store.missing(questions))
    if not missing:
        say(f"{title}: done ({len(questions)} answers in {store.path})")
        return
    with bar(title, missing) as progress:
        for count in store.fill(questions, generate, batch_size):
            progress.advance(count)


def _answer_test(
    config: Config, llm: TextLLM, store: AnswerStore, requests: Seq[Request], examples: dict[str, Example], split: str
) -> int:
    """Answer the transcript (the topline) and, for the zero of the scale, another utterance's transcript."""
    true, other = transcripts(examples), other_of(list(examples))
    questions = [Question.of(r, true) for r in requests]
    if other:
        wrong = transcripts(examples, other)
        questions += [Question.of(r, wrong) for r in requests]
    fill(store, questions, llm.answer, config.imitate.batch_size, f"answer {split}")
    return len(questions)
