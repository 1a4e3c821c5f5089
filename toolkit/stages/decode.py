"""Decode: a checkpoint answers the test set, beside the controls that say what its answers are worth.

`speech`: the utterance itself. `deaf`: another utterance's speech, so that a model that ignores what it hears
is seen to fail. `cascade`: Whisper's own transcript of the utterance, into the same LLM.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import torch

from toolkit.config import Config, load_config
from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.cuts import read_cuts
from toolkit.data.tasks import Request, evaluation_requests, load_tasks
from toolkit.errors import ConfigError
from toolkit.models.build import build_model
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages.hypotheses import Row, other_of, read_rows, write_rows
from toolkit.stages.imitate import TextLLM, asked_examples, fill, text_llm
from toolkit.stages.paths import answers_folder, checkpoint_folder, cuts_path, hypotheses_path
from toolkit.stages.progress import bar, say
from toolkit.stages.recognise import recognise
from toolkit.stages.train import loader_of
from toolkit.training.checkpoint import CONFIG, load_checkpoint
from toolkit.types import Batch, Example, Padded, SpeechSegment

SYSTEMS = ("speech", "deaf", "cascade")


def run(config: Config) -> list[Path]:
    """Answer the split with every system asked for. Returns the files written."""
    for system in config.decode.systems:
        if system not in SYSTEMS:
            raise ConfigError(f"decode.systems holds '{system}'; there are: {', '.join(SYSTEMS)}")
    model = trained_model(config)
    llm = text_llm(config, model.decoder)
    split = config.decode.split
    examples = asked_examples(config, split)
    tasks = load_tasks(Path(config.imitate.tasks))
    requests = evaluation_requests(list(examples), tasks)
    store = AnswerStore(answers_folder(config, split, llm.key), llm.max_new_tokens)
    itself = {name: name for name in examples}
    written = []
    for system in config.decode.systems:
        path = hypotheses_path(config, split, system)
        heard = other_of(list(examples)) if system == "deaf" else itself
        if system == "cascade":
            heard_text = _recognised(config, examples)
            questions = [Question(r.prompt, heard_text[r.cut]) for r in requests]
            fill(store, questions, llm.answer, config.imitate.batch_size, f"answer {split} by cascade")
            answers = [_known(store, question) for question in questions]
        else:
            answers = _listen(config, model, llm, requests, examples, heard, path, system)
        truths = [_known(store, Question(r.prompt, examples[r.cut].transcript)) for r in requests]
        rows = [
            Row.of(request, examples[request.cut], tasks[request.task], truth, answer, heard[request.cut])
            for request, truth, answer in zip(requests, truths, answers, strict=True)
        ]
        write_rows(path, rows)
        written.append(path)
    # The topline and the zero of the scale stand beside them, so that the folder can be scored by itself.
    for system in ("text", "other"):
        path = hypotheses_path(config, split, system)
        write_rows(path, read_rows(store.folder / f"{system}.jsonl"))
        written.append(path)
    return written


def trained_model(config: Config) -> SpeechLLM:
    """Build the model as it was trained and load what was trained.

    The checkpoint's own configuration says how its adapter is made; the decoder and encoder are those of
    `config`, and the checkpoint refuses them where they are not its own.
    """
    folder = checkpoint_folder(config)
    saved = load_config(folder / CONFIG) if (folder / CONFIG).exists() else config
    model = build_model(config.encoder, saved.adapter, config.decoder, saved.cut, config.seed)
    load_checkpoint(model, folder)
    model.eval()
    return model


@torch.no_grad()
def _listen(
    config: Config,
    model: SpeechLLM,
    llm: TextLLM,
    requests: Seq[Request],
    examples: dict[str, Example],
    heard: dict[str, str],
    path: Path,
    system: str,
) -> list[Answer]:
    """Answer from speech, in batches of like length; what was answered before an interruption is kept."""
    load, cached = loader_of(config, model, config.decode.split)
    partial = path.with_suffix(".partial.jsonl")
    stamp = str((checkpoint_folder(config) / "trainable.safetensors").stat().st_mtime_ns)
    answers: dict[int, Answer] = _read_partial(partial, stamp)
    order = sorted(
        (i for i in range(len(requests)) if i not in answers),
        key=lambda i: (examples[heard[requests[i].cut]].duration, i),
    )
    partial.parent.mkdir(parents=True, exist_ok=True)
    if not answers:
        partial.write_text(stamp + "\n")
    with bar(f"decode {config.decode.split} by {system}", len(order)) as progress, partial.open("a") as file:
        for start in range(0, len(order), config.decode.batch_size):
            chosen = order[start : start + config.decode.batch_size]
            names = [heard[requests[i].cut] for i in chosen]
            inputs = Padded.of([load(name) for name in names])
            batch = Batch(
                ids=tuple(names),
                sequences=tuple(
                    llm.tokenizer.question(requests[i].prompt, (SpeechSegment(0.0, examples[name].duration),))
                    for i, name in zip(chosen, names, strict=True)
                ),
                frames=inputs if cached else None,
                audio=None if cached else inputs,
            )
            for i, tokens in zip(chosen, model.generate(batch, llm.options), strict=True):
                answers[i] = Answer(llm.tokenizer.decode(tokens), len(tokens) < llm.max_new_tokens)
                file.write(json.dumps([i, answers[i].text, answers[i].complete]) + "\n")
            file.flush()
            progress.advance(len(chosen))
    partial.unlink()
    return [answers[i] for i in range(len(requests))]


def _read_partial(path: Path, stamp: str) -> dict[int, Answer]:
    """Read answers of an interrupted decoding with the same checkpoint; a cut last line is passed over."""
    if not path.exists():
        return {}
    head, *lines = path.read_text().split("\n")
    if head != stamp:
        return {}
    rows: list[Any] = [json.loads(line) for line in lines[:-1]]
    say(f"decode: {len(rows)} answers are there already")
    return {int(i): Answer(text, complete) for i, text, complete in rows}


def _recognised(config: Config, examples: dict[str, Example]) -> dict[str, str]:
    """Return Whisper's own transcripts, made once a split."""
    cuts = {cut.id: cut for cut in read_cuts(cuts_path(config, config.decode.split))}
    model = config.decode.recogniser or config.encoder["model"]
    return recognise([cuts[name] for name in examples], model, Path(config.data_dir) / config.decode.split)


def _known(store: AnswerStore, question: Question) -> Answer:
    answer = store.get(question)
    if answer is None:
        raise ConfigError(
            f"the text LLM has not answered {question.prompt!r}: run the imitate stage with the same "
            "imitate.tasks, imitate.test_utterances, imitate.max_new_tokens and decoder"
        )
    return answer
