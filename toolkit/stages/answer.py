"""Answer: a trained model answers one recording, from the shell."""

from __future__ import annotations

from pathlib import Path

from toolkit.config import load_config
from toolkit.data.audio import load_audio
from toolkit.data.tokenization import check_prompt
from toolkit.errors import DataError
from toolkit.models.build import best_device
from toolkit.stages.decode import trained_model
from toolkit.stages.imitate import text_llm
from toolkit.stages.paths import CONFIG
from toolkit.types import Batch, Padded, SpeechSegment


def answer(exp_dir: Path, audio: Path, prompt: str) -> str:
    """Answer a prompt about a recording with the model trained in `exp_dir`.

    Args:
        exp_dir: experiment folder with a checkpoint.
        audio: a sound file of any sampling rate; it is resampled.
        prompt: with `{speech}` where the recording goes.

    Raises:
        DataError: no `{speech}` in the prompt, or unusable or too long audio.
    """
    check_prompt(prompt)
    path = exp_dir / "checkpoint" / CONFIG
    if not path.exists():
        raise DataError(f"no trained model in {exp_dir}: {path} is missing")
    config = load_config(path)
    config.exp_dir = str(exp_dir)
    model = trained_model(config)
    llm = text_llm(config, model.decoder)
    samples = load_audio(audio, model.encoder.sampling_rate)
    duration = len(samples) / model.encoder.sampling_rate
    if duration > model.encoder.max_duration:
        raise DataError(f"{audio} is {duration:.1f} s long; the encoder takes {model.encoder.max_duration:.0f} s")
    batch = Batch(
        ids=(audio.name,),
        sequences=(llm.tokenizer.question(prompt, (SpeechSegment(0.0, duration),)),),
        audio=Padded.of([samples]),
    )
    return llm.tokenizer.decode(model.generate(batch.to(best_device()), llm.options)[0])
