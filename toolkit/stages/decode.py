"""Decode: a checkpoint answers the test set, beside the controls that say what its answers are worth.

`speech`: the utterance itself. `deaf`: another utterance's speech, so that a model that ignores what it hears
is seen to fail. `cascade`: Whisper's own transcript of the utterance, into the same LLM. Beside them stand the
topline, `text`, and the zero of the agreement scale, `other`, from the answers of the imitate stage.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence as Seq
from dataclasses import asdict
from pathlib import Path

from toolkit.config import Config
from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.batches import numbered
from toolkit.data.cuts import read_cuts
from toolkit.data.features import FrameCache
from toolkit.data.fingerprint import deciding, fingerprint
from toolkit.data.samples import SampleStore
from toolkit.data.tasks import Request, evaluation_requests, load_tasks
from toolkit.errors import ConfigError, DataError
from toolkit.models.build import best_device, build_model
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages.encode import audio_and_frames, encoder_training, speech_of
from toolkit.stages.hypotheses import Row, other_of, write_rows
from toolkit.stages.imitate import TextLLM, asked_examples, fill, text_llm, transcripts
from toolkit.stages.paths import answers_folder, as_trained, checkpoint_folder, cuts_path, hypotheses_path
from toolkit.stages.progress import say
from toolkit.stages.recognise import language_code, recognise
from toolkit.training.checkpoint import load_checkpoint, trainable_state
from toolkit.types import Batch, Example, SpeechSegment

SYSTEMS = ("speech", "deaf", "cascade")
HEARERS = ("model", "recogniser")
_MADE_BY = "made_by.json"


def run(config: Config) -> list[Path]:
    """Answer the split with every system asked for. Returns the files written."""
    for system in config.decode.systems:
        if system not in SYSTEMS:
            raise ConfigError(f"decode.systems holds '{system}'; there are: {', '.join(SYSTEMS)}")
    if config.decode.hears not in HEARERS:
        raise ConfigError(f"decode.hears is one of {', '.join(HEARERS)}, not '{config.decode.hears}'")
    config = as_trained(config)
    recognised = config.decode.hears == "recogniser"
    if recognised or "cascade" in config.decode.systems:
        language_code(config.decode.language)  # known before hours of decoding
        _check_recogniser(config)
    model = None if recognised else trained_model(config)
    llm = text_llm(config, model.decoder if model else None)
    split = config.decode.split
    examples = asked_examples(config, split)
    tasks = load_tasks(Path(config.imitate.tasks))
    requests = evaluation_requests(list(examples), tasks)
    text = AnswerStore(answers_folder(config, split, llm.key), llm.max_new_tokens)
    itself, other = {name: name for name in examples}, other_of(list(examples))
    # The references come first: without them hours of decoding would be for nothing.
    true = transcripts(examples)
    truths = [_known(text, Question.of(r, true)) for r in requests]
    answers: dict[str, tuple[list[Answer], dict[str, str]]] = {"text": (truths, itself)}
    if other:
        wrong = transcripts(examples, other)
        answers["other"] = ([_known(text, Question.of(r, wrong)) for r in requests], other)
    mark = _mark(config, model, llm)
    _clear_others(hypotheses_path(config, split, "speech").parent, mark)
    for system in config.decode.systems:
        heard = other if system == "deaf" else itself
        if not heard:
            say("decode: one utterance alone has no other to be deaf with; left out")
        elif system == "cascade" or model is None:
            answers[system] = (_cascade(config, llm, text, requests, examples, heard, system), heard)
        else:
            answers[system] = (_listen(config, model, llm, requests, examples, heard, mark, system), heard)
    written = []
    for system, (given, heard) in answers.items():
        rows = [
            Row.of(request, request.example(examples), tasks[request.task], truth, answer, heard[request.cut])
            for request, truth, answer in zip(requests, truths, given, strict=True)
        ]
        written.append(hypotheses_path(config, split, system))
        write_rows(written[-1], rows)
    return written


def _check_recogniser(config: Config) -> None:
    if not config.decode.recogniser and config.encoder["name"] != "whisper":
        raise ConfigError(
            f"encoder '{config.encoder['name']}' recognises nothing for the cascade: name a Whisper in "
            "decode.recogniser, or have none (decode.systems without cascade, decode.hears=model)"
        )


def _mark(config: Config, model: SpeechLLM | None, llm: TextLLM) -> str:
    """Digest all that decides the answers to speech."""
    if model is None:
        return fingerprint({"llm": llm.key, "recogniser": _recogniser(config), "language": config.decode.language})
    beside = {name: value for name, value in trainable_state(model).items() if not name.startswith("adapter.")}
    lora = any(name.startswith("decoder.") for name in beside)
    about = {key: value for key, value in config.decoder.items() if key not in ("model", "dtype")} if lora else {}
    if encoder_training(config).trained:
        about["encoder_training"] = asdict(encoder_training(config))
    return fingerprint({"llm": llm.key, "encoder": deciding(config.encoder), **about}, model.adapter, beside)


def _recogniser(config: Config) -> str:
    """Return the Whisper that transcribes for a cascade."""
    return str(config.decode.recogniser or config.encoder["model"])


def trained_model(config: Config, folder: Path | None = None) -> SpeechLLM:
    """Build the model of a configuration and load what was trained of it, here or in another checkpoint `folder`."""
    training = encoder_training(config)
    model = build_model(config.encoder, config.adapter, config.decoder, config.cut, config.seed, training)
    load_checkpoint(model, folder or checkpoint_folder(config))
    return model.to(best_device()).eval()


def _listen(
    config: Config,
    model: SpeechLLM,
    llm: TextLLM,
    requests: Seq[Request],
    examples: dict[str, Example],
    heard: dict[str, str],
    mark: str,
    system: str,
) -> list[Answer]:
    """Answer from speech; what this very checkpoint has answered before is not asked again."""
    split = config.decode.split
    speech = speech_of(config, model.encoder, split)
    durations = {name: examples[heard[name]].duration for name in examples}
    questions = [Question.of(r, heard, durations) for r in requests]
    store = AnswerStore(hypotheses_path(config, split, "").parent / f"answers-{mark}", llm.max_new_tokens)

    def generate(batch: Seq[Question]) -> list[Answer]:
        return answer_speech(model, llm, batch, speech)

    fill(store, questions, generate, config.decode.batch_size, f"decode {split} by {system}")
    return [_known(store, question) for question in questions]


def answer_speech(
    model: SpeechLLM, llm: TextLLM, questions: Seq[Question], speech: FrameCache | SampleStore
) -> list[Answer]:
    """Answer questions about utterances whose frames are cached, or made of their audio now."""
    audio, frames = audio_and_frames(speech, [name for q in questions for name, _ in q.said])
    batch = Batch(
        ids=tuple(q.text for q in questions),
        sequences=tuple(
            llm.tokenizer.question(q.prompt, *((SpeechSegment(0.0, duration),) for _, duration in q.said))
            for q in questions
        ),
        audio=audio,
        frames=frames,
        recordings=numbered([len(q.said) for q in questions]),
    )
    tokens = model.generate(batch.to(best_device()), llm.options)
    return [Answer(llm.tokenizer.decode(t), len(t) < llm.max_new_tokens) for t in tokens]


def _cascade(
    config: Config,
    llm: TextLLM,
    store: AnswerStore,
    requests: Seq[Request],
    examples: dict[str, Example],
    heard: dict[str, str],
    system: str,
) -> list[Answer]:
    """Answer Whisper's own transcripts of what is heard; the transcripts are made once a split."""
    split = config.decode.split
    cuts = {cut.id: cut for cut in read_cuts(cuts_path(config, split))}
    folder = Path(config.data_dir) / split
    said = recognise([cuts[name] for name in examples], _recogniser(config), folder, config.decode.language)
    questions = [Question.of(r, {name: said[heard[name]] for name in examples}) for r in requests]
    title = f"answer {split} by cascade" + ("" if system == "cascade" else f" for {system}")
    fill(store, questions, llm.answer, config.imitate.batch_size, title)
    return [_known(store, question) for question in questions]


def _clear_others(folder: Path, mark: str) -> None:
    """Take away hypotheses that another checkpoint made: one table must not mix two models."""
    made_by = folder / _MADE_BY
    if made_by.exists() and json.loads(made_by.read_text()) != mark:
        for path in folder.glob("*.jsonl"):
            path.unlink()
        say(f"decode: answers of an earlier checkpoint in {folder} are taken away")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = made_by.with_suffix(".tmp")
    temporary.write_text(json.dumps(mark))
    os.replace(temporary, made_by)


def _known(store: AnswerStore, question: Question) -> Answer:
    answer = store.get(question)
    if answer is None:
        raise DataError(
            f"no answer to {question.prompt!r} about {question.text!r} in {store.path}: run the imitate stage with the "
            "same imitate.tasks, imitate.*_utterances, imitate.max_new_tokens, decoder and system"
        )
    return answer
