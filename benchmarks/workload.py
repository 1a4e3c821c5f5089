"""What all sides train on: a few utterances of egs/mini as a data folder of their own, and one configuration.

The folder is what `prepare`, `encode` and `imitate` would have made of these utterances alone, so the stages of the
toolkit run on it as on any other. Answers that egs/mini has are taken over; those that it lacks are drawn.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from toolkit.config import Config, compose_config, root
from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.cuts import read_cuts, write_cuts
from toolkit.data.samples import SampleStore
from toolkit.errors import DataError
from toolkit.interfaces import LOSSES
from toolkit.models.build import build_model
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages import encode, imitate
from toolkit.stages.encode import sample_store
from toolkit.stages.paths import SUMMARY, answers_folder
from toolkit.stages.train import training_examples
from toolkit.types import Example, Padded, Sequence, SpeechSegment

HERE = Path(__file__).resolve().parent
RECIPE = (
    "egs=mini/conf/mini", "loss=cross_entropy", "interleaver=whole", "train.speech_share=1",
    "train.anchor=0", "cut=frames", "encode.copies=0",
    "encoder.window=padded", "imitate.tasks_per_cut=2", "imitate.dev_utterances=0",
)  # fmt: skip
"""what is trained: the answers of all tasks, from plain speech; Whisper hears 30 seconds, as it was trained"""
VOXTRAL = (
    "adapter=stack", "adapter.factor=4", "adapter.hidden_dim=null", "adapter.activation=gelu", "adapter.bias=false",
)  # fmt: skip
"""the adapter of all sides: the one that transformers' Voxtral has"""
FP32, BF16 = "fp32", "bf16"


@dataclass(frozen=True)
class Spec:
    """One turn of one side, as it is told to a process of its own."""

    data: str
    """the folder that `folder` made"""
    mode: str = FP32
    """precision: `fp32`, `bf16` (frozen weights) or `autocast` (bf16 over fp32 weights)"""
    batch: int = 16
    steps: int = 4
    """optimiser steps that are timed; one more goes before"""
    overrides: tuple[str, ...] = ()
    """of the configuration"""
    needed: str = ""
    """for the limit: the file that says what one turn of ours had to compute"""
    cache: str = ""
    """for compiling: the folder of what torch has compiled; empty means torch's own"""


def config_of(spec: Spec, exp: str | Path = "-") -> Config:
    """Compose the configuration of a turn."""
    dtype = BF16 if spec.mode == BF16 else FP32
    training = [f"train.batch_size={spec.batch}", f"train.steps={spec.steps + 1}", f"train.decoder_dtype={dtype}"]
    places = [f"exp_dir={exp}", f"data_dir={spec.data}", "train.validate_every=1000000"]
    return compose_config([*RECIPE, *VOXTRAL, *places, *training, *spec.overrides])


def folder(source: Path, work: Path, utterances: int, overrides: Seq[str] = (), response: int | None = None) -> Path:
    """Make (or find) the data folder of some utterances of a prepared corpus.

    Args:
        source: the `data` folder of egs/mini.
        work: where data folders are made.
        utterances: how many, spread over the training split.
        overrides: of the configuration.
        response: tokens that every answer is to have, about; None takes the LLM's own answers.

    Raises:
        DataError: egs/mini is not prepared, or has fewer utterances.
    """
    cuts_file = source / "train" / "cuts.jsonl.gz"
    if not cuts_file.exists():
        raise DataError(
            f"{cuts_file} does not exist: the benchmarks run on egs/mini as prepared by "
            "`egs/mini/run.sh --stop-stage 4` (half an hour; `egs/mini/demo.sh --stop-stage 4` is enough and quicker); "
            "say --data DIR if its data folder is elsewhere"
        )
    kind = "answers" if response is None else f"response{response}"
    data = work / f"{kind}-{utterances}"
    if not (data / "train" / SUMMARY).exists():
        cuts = sorted(read_cuts(cuts_file), key=lambda cut: cut.id)
        if len(cuts) < utterances:
            raise DataError(f"{cuts_file} holds {len(cuts)} utterances, and {utterances} are wanted: ask for fewer")
        write_cuts(data / "train" / "cuts.jsonl.gz", imitate.spread(cuts, utterances))
        for answers in (source / "train" / "answers").glob("*/store.jsonl") if response is None else ():
            (data / "train" / "answers" / answers.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(answers, data / "train" / "answers" / answers.parent.name / answers.name)
        shutil.copyfile(source / "train" / SUMMARY, data / "train" / SUMMARY)
    config = config_of(Spec(str(data), overrides=tuple(overrides)))
    encode.run(config)
    if response is None:
        imitate.run(config)
    else:
        _answer(config, response)
    return data


def _answer(config: Config, tokens: int) -> None:
    """Give every training request an answer of so many words, each of which is a token or two."""
    llm = imitate.text_llm(config)
    text = " ".join(["word"] * tokens)
    examples = imitate.asked_examples(config, "train")
    tasks = imitate.training_tasks(config)
    chosen = [tasks[name] for name in config.imitate.use] or [t for t in tasks.values() if not t.held_out]
    asked = imitate.training_questions(imitate.asked_requests(config, examples, chosen), examples, tasks)
    store = AnswerStore(answers_folder(config, "train", llm.key), llm.max_new_tokens)

    def answer(questions: Seq[Question]) -> list[Answer]:
        return [Answer(text, complete=True) for _ in questions]

    for _ in store.fill(asked, answer, len(asked)):
        pass


@dataclass(frozen=True)
class Workload:
    """The model of a turn, and the rows that it is trained on."""

    model: SpeechLLM
    examples: list[Example]
    sequences: list[Sequence]
    audio: SampleStore

    @classmethod
    def of(cls, spec: Spec) -> Workload:
        """Build it: the same weights, adapter included, whoever builds it."""
        config = config_of(spec)
        dtype = BF16 if spec.mode == BF16 else FP32
        decoder = {**config.decoder, "dtype": dtype}
        model = build_model(config.encoder, config.adapter, decoder, config.cut, config.seed)
        llm = imitate.text_llm(config, model.decoder)
        examples = training_examples(config, llm, LOSSES.build(config.loss))
        sequences = [llm.tokenizer.sequence(e, (SpeechSegment(0.0, e.duration),)) for e in examples]
        return cls(model, examples, sequences, sample_store(config, model.encoder, "train"))

    def samples(self, rows: Seq[int]) -> Padded:
        """Return the audio of some rows: (B, samples)."""
        return Padded.of([self.audio[self.examples[row].id] for row in rows])


def trained(model: SpeechLLM) -> list[Tensor]:
    """Return the parameters that are trained."""
    return [p for p in model.parameters() if p.requires_grad]


def gradient(model: SpeechLLM) -> Tensor:
    """Return the gradient of all that is trained, as one vector."""
    return torch.cat([p.grad.flatten().float() for p in trained(model) if p.grad is not None])


def offline() -> None:
    """Keep transformers and tokenizers quiet and away from any hub, here and in the processes that are started."""
    root()
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"), ("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
    ):  # fmt: skip
        os.environ.setdefault(name, value)
