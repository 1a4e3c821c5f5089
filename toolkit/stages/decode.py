"""Decode: a checkpoint answers the test set, beside the controls that say what its answers are worth.

`speech`: the utterance itself. `deaf`: another utterance's speech, so that a model that ignores what it hears
is seen to fail. `cascade`: Whisper's own transcript of the utterance, into the LLM that answers in the imitate stage
(`imitate.engine`). Beside them stand the topline, `text`, and the zero of the agreement scale, `other`, from the
answers of that stage.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from toolkit.config import Config
from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.batches import numbered
from toolkit.data.cuts import read_cuts, replacing
from toolkit.data.features import FrameCache
from toolkit.data.fingerprint import deciding, fingerprint
from toolkit.data.samples import SampleStore
from toolkit.data.tasks import Request, Task, evaluation_requests, load_tasks
from toolkit.errors import ConfigError, DataError
from toolkit.models.build import best_device, build_model
from toolkit.models.speech_llm import SpeechLLM
from toolkit.models.splice import Spliced
from toolkit.stages.encode import audio_and_frames, encoder_training, speech_of, verify_speech
from toolkit.stages.engines import Engine, check_engine
from toolkit.stages.fill import fill
from toolkit.stages.hypotheses import Row, other_of, write_rows
from toolkit.stages.imitate import TextLLM, answering, asked_examples, text_llm, transcripts
from toolkit.stages.paths import answers_folder, as_trained, checkpoint_folder, cuts_path, hypotheses_path
from toolkit.stages.progress import say
from toolkit.stages.recognise import language_code, recognise
from toolkit.training.checkpoint import load_checkpoint, trainable_state
from toolkit.types import Batch, Example, Plan, Sequence, SpeechSegment

SYSTEMS = ("speech", "deaf", "cascade")
HEARERS = ("model", "recogniser")
_MADE_BY = "made_by.json"


@dataclass(frozen=True)
class Asked:
    """What every system is asked, about what, and where the answers go."""

    split: str
    folder: Path
    systems: Seq[str]
    examples: dict[str, Example]
    tasks: dict[str, Task]
    requests: Seq[Request]
    about: str = ""
    """what the answers in the folder depend on beside the model"""

    @property
    def itself(self) -> dict[str, str]:
        """Pair every utterance with itself."""
        return {name: name for name in self.examples}

    @property
    def other(self) -> dict[str, str]:
        """Pair every utterance with another one; empty where there is none."""
        return other_of(list(self.examples))


def run(config: Config) -> list[Path]:
    """Answer the split with every system asked for. Returns the files written."""
    config = checked(config, config.decode.systems, "decode.systems")
    model = hearing_model(config)
    llm = text_llm(config, model.decoder) if model else None
    engine = answering(config, llm)
    split = config.decode.split
    examples = asked_examples(config, split)
    tasks = load_tasks(Path(config.imitate.tasks))
    requests = evaluation_requests(list(examples), tasks)
    folder = hypotheses_path(config, split, "speech").parent
    about = f" {engine.key}" if llm is not None and engine is not llm else ""
    asked = Asked(split, folder, config.decode.systems, examples, tasks, requests, about)
    return answer_all(config, asked, model, llm, engine, mark_of(config, model, llm or engine))


def checked(config: Config, systems: Seq[str], key: str) -> Config:
    """Return the configuration as trained.

    Raises:
        ConfigError: a system of the option `key`, or who hears, is none that there is; or nobody can recognise.
    """
    for system in systems:
        if system not in SYSTEMS:
            raise ConfigError(f"{key} holds '{system}'; there are: {', '.join(SYSTEMS)}")
    if config.decode.hears not in HEARERS:
        raise ConfigError(f"decode.hears is one of {', '.join(HEARERS)}, not '{config.decode.hears}'")
    check_engine(config)
    config = as_trained(config)
    if config.decode.hears == "recogniser" or "cascade" in systems:
        language_code(config.decode.language)  # known before hours of decoding
        _check_recogniser(config, key)
    return config


def hearing_model(config: Config) -> SpeechLLM | None:
    """Build the trained model; None where a recogniser hears in its place."""
    return None if config.decode.hears == "recogniser" else trained_model(config)


def answer_all(
    config: Config, asked: Asked, model: SpeechLLM | None, llm: TextLLM | None, engine: Engine, mark: str
) -> list[Path]:
    """Answer with every system, beside the stored answers of the `engine`; `llm` is the text side of the `model`.

    Returns:
        the files written.
    """
    text = AnswerStore(answers_folder(config, asked.split, engine.key), engine.max_new_tokens)
    # The references come first: without them hours of decoding would be for nothing.
    truths = text_answers(text, asked)
    answers: dict[str, tuple[list[Answer], dict[str, str]]] = {"text": (truths, asked.itself)}
    if asked.other:
        answers["other"] = text_answers(text, asked, asked.other), asked.other
    _clear_others(asked.folder, mark + asked.about)
    for system in asked.systems:
        heard = asked.other if system == "deaf" else asked.itself
        if not heard:
            say("decode: one utterance alone has no other to be deaf with; left out")
        elif system == "cascade" or model is None or llm is None:
            answers[system] = (_cascade(config, engine, text, asked, heard, system), heard)
        else:
            answers[system] = (_listen(config, model, llm, asked, heard, mark, system), heard)
    written = []
    for system, (given, heard) in answers.items():
        rows = [
            Row.of(
                request, request.example(asked.examples), asked.tasks[request.task], truth, answer, heard[request.cut]
            )
            for request, truth, answer in zip(asked.requests, truths, given, strict=True)
        ]
        written.append(asked.folder / f"{system}.jsonl")
        write_rows(written[-1], rows)
    return written


def text_answers(store: AnswerStore, asked: Asked, heard: dict[str, str] | None = None) -> list[Answer]:
    """Return the text LLM's stored answers to the true transcripts, or to those of what is heard in their place."""
    texts = transcripts(asked.examples, heard)
    return [_known(store, Question.of(request, texts)) for request in asked.requests]


def _check_recogniser(config: Config, key: str) -> None:
    if not config.decode.recogniser and config.encoder["name"] != "whisper":
        raise ConfigError(
            f"encoder '{config.encoder['name']}' recognises nothing for the cascade: name a Whisper in "
            f"decode.recogniser, or have none ({key} without cascade, decode.hears=model)"
        )


def mark_of(config: Config, model: SpeechLLM | None, llm: Engine) -> str:
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
    config: Config, model: SpeechLLM, llm: TextLLM, asked: Asked, heard: dict[str, str], mark: str, system: str
) -> list[Answer]:
    """Answer from speech; what this very checkpoint has answered before is not asked again."""
    verify_speech(config, model.encoder, asked.split)
    speech = speech_of(config, model.encoder, asked.split)
    questions = spoken_questions(asked, heard)
    folder = hypotheses_path(config, asked.split, "").parent / f"answers-{mark}"
    store = AnswerStore(folder, llm.max_new_tokens)
    hearing = replace(llm, rows=config.decode.batch_size)

    def generate(batch: Seq[Question]) -> list[Answer]:
        return answer_speech(model, hearing, batch, speech)

    fill(store, questions, generate, config.decode.batch_size, f"decode {asked.split} by {system}")
    return [_known(store, question) for question in questions]


def spoken_questions(asked: Asked, heard: dict[str, str]) -> list[Question]:
    """Return what is asked about the speech of what is heard."""
    durations = {name: asked.examples[heard[name]].duration for name in asked.examples}
    return [Question.of(request, heard, durations) for request in asked.requests]


def answer_speech(
    model: SpeechLLM, llm: TextLLM, questions: Seq[Question], speech: FrameCache | SampleStore
) -> list[Answer]:
    """Answer questions about utterances whose frames are cached, or made of their audio now."""
    tokens = model.answer(spoken_rows(model, llm, questions, speech), llm.options)
    return [Answer(llm.tokenizer.decode(t), len(t) < llm.max_new_tokens) for t in tokens]


@torch.no_grad()
def spoken_rows(
    model: SpeechLLM, llm: TextLLM, questions: Seq[Question], speech: FrameCache | SampleStore
) -> list[Spliced]:
    """Return questions about speech as the decoder is given them; `llm.rows` of them are heard together."""
    rows = []
    for start in range(0, len(questions), llm.rows or len(questions)):
        part = questions[start : start + (llm.rows or len(questions))]
        sequences = [llm.tokenizer.question(q.prompt, *spoken_plans(q)) for q in part]
        batch = spoken_batch(speech, part, sequences).to(best_device())
        rows += model.rows(model.speech(batch), batch.sequences, batch.recordings)
    return rows


def spoken_plans(question: Question) -> list[Plan]:
    """Return what stands for each slot of a question about speech: the whole utterance."""
    return [(SpeechSegment(0.0, duration),) for _, duration in question.said]


def spoken_batch(speech: FrameCache | SampleStore, questions: Seq[Question], sequences: Seq[Sequence]) -> Batch:
    """Put questions about speech, as tokens and spans, together with what is heard."""
    audio, frames = audio_and_frames(speech, [name for q in questions for name, _ in q.said])
    return Batch(
        ids=tuple(q.text for q in questions),
        sequences=tuple(sequences),
        audio=audio,
        frames=frames,
        recordings=numbered([len(q.said) for q in questions]),
    )


def _cascade(
    config: Config, engine: Engine, store: AnswerStore, asked: Asked, heard: dict[str, str], system: str
) -> list[Answer]:
    """Answer Whisper's own transcripts of what is heard."""
    questions = recognised_questions(config, asked, heard)
    title = f"answer {asked.split} by cascade" + ("" if system == "cascade" else f" for {system}")
    fill(store, questions, engine.answer, config.imitate.batch_size, title)
    return [_known(store, question) for question in questions]


def recognised_questions(config: Config, asked: Asked, heard: dict[str, str]) -> list[Question]:
    """Return what is asked about Whisper's own transcripts of what is heard; they are made once a split."""
    cuts = {cut.id: cut for cut in read_cuts(cuts_path(config, asked.split))}
    folder = Path(config.data_dir) / asked.split
    said = recognise([cuts[name] for name in asked.examples], _recogniser(config), folder, config.decode.language)
    return [Question.of(r, {name: said[heard[name]] for name in asked.examples}) for r in asked.requests]


def _clear_others(folder: Path, mark: str) -> None:
    """Take away hypotheses that another checkpoint made: one table must not mix two models."""
    made_by = folder / _MADE_BY
    if made_by.exists() and json.loads(made_by.read_text()) != mark:
        for path in folder.glob("*.jsonl"):
            path.unlink()
        say(f"decode: answers of an earlier checkpoint in {folder} are taken away")
    with replacing(made_by) as temporary:
        temporary.write_text(json.dumps(mark))


def _known(store: AnswerStore, question: Question) -> Answer:
    answer = store.get(question)
    if answer is None:
        raise DataError(
            f"no answer to {question.prompt!r} about {question.text!r} in {store.path}: run the imitate stage with the "
            "same imitate.tasks, imitate.*_utterances, imitate.max_new_tokens, imitate.engine, decoder and system"
        )
    return answer
