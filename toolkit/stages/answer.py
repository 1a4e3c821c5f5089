"""Answer: a trained model answers one recording, or several in a conversation, from the shell."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from pathlib import Path

from torch import Tensor

from toolkit.config import load_config
from toolkit.data.audio import load_audio
from toolkit.data.tokenization import check_recordings
from toolkit.errors import DataError
from toolkit.interfaces import Encoder
from toolkit.models.build import best_device
from toolkit.stages.decode import trained_model
from toolkit.stages.imitate import text_llm
from toolkit.stages.paths import CONFIG
from toolkit.types import Batch, Padded, SpeechSegment, Turn


def answer(exp_dir: Path, audio: Path, prompt: str, others: Seq[Path] = (), history: Seq[tuple[str, str]] = ()) -> str:
    """Answer a prompt about a recording, or about several, with the model trained in `exp_dir`.

    Args:
        exp_dir: experiment folder with a checkpoint.
        audio: a sound file of any sampling rate; it is resampled.
        prompt: with `{speech}` where the recording goes.
        others: the sound files of `{speech2}`, `{speech3}` and so on.
        history: prompt and answer of each turn before, the oldest first; the slots may stand in the prompts.

    Raises:
        DataError: there are not as many recordings as slots, or unusable or too long audio.
    """
    files, turns = (audio, *others), tuple(Turn(asked, answered) for asked, answered in history)
    check_recordings(len(files), prompt, turns)
    path = exp_dir / "checkpoint" / CONFIG
    if not path.exists():
        raise DataError(f"no trained model in {exp_dir}: {path} is missing")
    config = load_config(path)
    config.exp_dir = str(exp_dir)
    model = trained_model(config)
    llm = text_llm(config, model.decoder)
    recordings = [_load(path, model.encoder) for path in files]
    plans = [(SpeechSegment(0.0, len(samples) / model.encoder.sampling_rate),) for samples in recordings]
    batch = Batch(
        ids=(audio.name,),
        sequences=(llm.tokenizer.question(prompt, *plans, history=turns),),
        audio=Padded.of(recordings),
        recordings=(tuple(range(len(files))),),
    )
    return llm.tokenizer.decode(model.generate(batch.to(best_device()), llm.options)[0])


def _load(path: Path, encoder: Encoder) -> Tensor:
    samples = load_audio(path, encoder.sampling_rate)
    duration = len(samples) / encoder.sampling_rate
    if duration > encoder.max_duration:
        raise DataError(f"{path} is {duration:.1f} s long; the encoder takes {encoder.max_duration:.0f} s")
    return samples
