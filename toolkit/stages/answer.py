"""Answer: a trained model answers one recording, or several in a conversation; from the shell, or many at once."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from toolkit.config import load_config
from toolkit.data.answers import Answer
from toolkit.data.audio import load_audio
from toolkit.data.batches import numbered
from toolkit.data.tokenization import check_recordings
from toolkit.errors import DataError
from toolkit.interfaces import Encoder, TokenAdapter
from toolkit.models.build import best_device
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages.decode import trained_model
from toolkit.stages.imitate import TextLLM, text_llm
from toolkit.stages.paths import CONFIG
from toolkit.stages.progress import say
from toolkit.types import Batch, Padded, SpeechSegment, Turn


@torch.no_grad()
def answer(exp_dir: Path, audio: Path, prompt: str, others: Seq[Path] = (), history: Seq[tuple[str, str]] = ()) -> str:
    """Answer a prompt about a recording, or about several, with the model trained in `exp_dir`.

    Args:
        exp_dir: experiment folder with a checkpoint.
        audio: a sound file of any sampling rate; it is resampled.
        prompt: with `{speech}` where the recording goes.
        others: the sound files of `{speech2}`, `{speech3}` and so on.
        history: prompt and answer of each turn before, the oldest first; the slots may stand in the prompts.

    With an adapter that emits tokens it also says, on standard error, which words it took the recordings for.

    Raises:
        DataError: there are not as many recordings as slots, or unusable or too long audio.
    """
    files, turns = (audio, *others), tuple(Turn(asked, answered) for asked, answered in history)
    check_recordings(len(files), prompt, turns)
    model, llm = trained_in(exp_dir)
    asked = Asked(prompt, tuple(_load(path, model.encoder) for path in files), turns)
    if isinstance(model.adapter, TokenAdapter):
        for path, tokens in zip(files, _heard(model.adapter, model.frames(_batch(model, llm, [asked]))), strict=True):
            say(f"heard in {path.name}: {llm.tokenizer.decode(tokens)}")
    return respond(model, llm, [asked])[0].text


@dataclass(frozen=True)
class Asked:
    """A prompt, its recordings as samples (n,) at the encoder's rate, and the turns before it."""

    prompt: str
    recordings: tuple[Tensor, ...]
    history: tuple[Turn, ...] = ()


def trained_in(exp_dir: Path) -> tuple[SpeechLLM, TextLLM]:
    """Build the model trained in `exp_dir` as its checkpoint says, and the text side of its decoder.

    Raises:
        DataError: there is none.
    """
    path = exp_dir / "checkpoint" / CONFIG
    if not path.exists():
        raise DataError(f"no trained model in {exp_dir}: {path} is missing")
    config = load_config(path)
    config.exp_dir = str(exp_dir)
    model = trained_model(config)
    return model, text_llm(config, model.decoder)


@torch.no_grad()
def respond(model: SpeechLLM, llm: TextLLM, asked: Seq[Asked]) -> list[Answer]:
    """Answer several at once, each about its own recordings."""
    tokens = model.generate(_batch(model, llm, asked), llm.options)
    return [Answer(llm.tokenizer.decode(t), len(t) < llm.max_new_tokens) for t in tokens]


def _batch(model: SpeechLLM, llm: TextLLM, asked: Seq[Asked]) -> Batch:
    rate = model.encoder.sampling_rate
    return Batch(
        ids=tuple(each.prompt for each in asked),
        sequences=tuple(
            llm.tokenizer.question(
                each.prompt,
                *((SpeechSegment(0.0, len(samples) / rate),) for samples in each.recordings),
                history=each.history,
            )
            for each in asked
        ),
        audio=Padded.of([samples for each in asked for samples in each.recordings]),
        recordings=numbered([len(each.recordings) for each in asked]),
    ).to(best_device())


def _heard(adapter: TokenAdapter, frames: Padded) -> list[list[int]]:
    """Return the decoder's tokens that the adapter takes each recording for: runs of one label, without blanks."""
    best = [torch.unique_consecutive(row.argmax(-1)) for row in adapter.token_logits(frames).unpad()]
    return [adapter.token_ids[labels[labels > 0] - 1].tolist() for labels in best]


def _load(path: Path, encoder: Encoder) -> Tensor:
    samples = load_audio(path, encoder.sampling_rate)
    duration = len(samples) / encoder.sampling_rate
    if duration > encoder.max_duration:
        raise DataError(f"{path} is {duration:.1f} s long; the encoder takes {encoder.max_duration:.0f} s")
    return samples
