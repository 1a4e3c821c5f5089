"""What cannot be is refused before anything is loaded: none of the models named here exists."""

from pathlib import Path
from typing import Any

import pytest
import torch._inductor.config
from hydra.errors import ConfigCompositionException

from toolkit.config import Config, compose_config
from toolkit.errors import ConfigError
from toolkit.models.build import build_model
from toolkit.stages import train

NOWHERE = ("encoder.model=nowhere", "decoder.model=nowhere")


def config_of(exp: Path, *overrides: str) -> Config:
    models = [model for model in NOWHERE if f"~{model.split('=')[0]}" not in overrides]
    return compose_config([*models, f"exp_dir={exp}", *(o for o in overrides if not o.startswith("~"))])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("+decoder.audio_only=true", r"decoder 'causal_lm' 'audio_only'.* audio_only is an option of decoder=lora\."),
        (
            "train.text_share=1 train.speech_share=0",
            "train.text_share=1 leaves nothing to hear, and the decoder is frozen",
        ),
        (
            "decoder=lora decoder.audio_only=true train.text_share=1 train.speech_share=0",
            "train.text_share=1 leaves nothing to hear, and decoder.audio_only acts where there is speech",
        ),
        ("interleaver=words interleaver.learn_text=true loss=distillation", "not loss=distillation, whose view"),
        ("interleaver=words interleaver.learn_text=true loss=hidden", "not loss=hidden, whose view"),
        (
            "interleaver=words interleaver.learn_text=true loss=weighted +loss.weights={hidden:1}",
            "not loss=weighted, whose view",
        ),
        ("loss=ctc", r"needs an adapter that emits tokens \(adapter=ctc\); StackAdapter does not"),
        ("loss=cif_length", r"needs an adapter that counts its outputs \(adapter=cif\); StackAdapter does not"),
        ("adapter=qformer", "cut=embeddings needs an adapter that knows when its outputs happen; QFormerAdapter does"),
        ("cut=words", "cut is one of frames, embeddings, audio, not 'words'"),
        (
            "~encoder.model encoder=units +encoder.of={name:whisper,model:nowhere} encoder.centroids=x "
            "train.encoder=full",
            "encoder=units passes no gradient on, so train.encoder=full would train nothing",
        ),
        (
            "~encoder.model encoder=joined +encoder.first={name:whisper,model:a} "
            "+encoder.second={name:whisper,model:b} adapter=whisper_decoder_qformer adapter.weights=encoder cut=frames",
            "adapter.weights=encoder: encoder=joined names no model of its own",
        ),
        ("train.decoder_dtype=fp8", "train.decoder_dtype is fp32, bf16, auto or empty, not 'fp8'"),
        ("interleaver=words interleaver.ratio=2", r"ratio .*not 2"),
        ("train.text_share=0.7", "add up to more than 1"),
    ],
)
def test_an_impossible_combination_is_refused(overrides: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train.run(config_of(tmp_path / "exp", *overrides.split(" ")))
    assert not (tmp_path / "exp").exists()


def test_compiling_without_a_compiler_is_refused(tmp_path: Path) -> None:
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(ConfigError, match=r"train\.compile needs a C\+\+ compiler on a CPU, and there is none"),
    ):
        train.run(config_of(tmp_path / "exp", "train.compile=true"))
    assert not (tmp_path / "exp").exists()


def test_a_frozen_decoder_has_no_such_key_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigCompositionException, match=r"decoder\.audio_only"):
        config_of(tmp_path, "decoder.audio_only=true")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("encoder", "unknown key of encoder 'whisper' 'no_such_key'"),
        ("adapter", "unknown key of adapter 'stack' 'no_such_key'"),
        ("decoder", "unknown key of decoder 'causal_lm' 'no_such_key'"),
    ],
)
def test_no_part_is_loaded_beside_one_that_cannot_be(part: str, message: str) -> None:
    options: dict[str, Any] = {
        "encoder": {"name": "whisper", "model": "nowhere"},
        "adapter": {"name": "stack"},
        "decoder": {"name": "causal_lm", "model": "nowhere"},
    }
    options[part]["no_such_key"] = 1
    with pytest.raises(ConfigError, match=message):
        build_model(**options, cut="embeddings", seed=0)
