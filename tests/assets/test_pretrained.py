"""Models without weights: published sizes, and the same classes as with weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, AutoModelForCausalLM

from toolkit.assets.catalog import ASSETS
from toolkit.assets.locate import assets_root
from toolkit.assets.pretrained import HUB_IDS, SHAPES, place_of, pretrained, without_weights
from toolkit.assets.record import is_current
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.errors import AssetError, UnknownNameError

PUBLISHED = {
    "openai/whisper-tiny": 37_760_640,
    "openai/whisper-base": 72_593_920,
    "openai/whisper-small": 241_734_912,
    "openai/whisper-medium": 763_857_920,
    "openai/whisper-large-v2": 1_543_304_960,
    "openai/whisper-large-v3": 1_543_490_560,
    "openai/whisper-large-v3-turbo": 808_878_080,
    "meta-llama/Llama-2-7b-chat-hf": 6_738_415_616,
    "lmsys/vicuna-7b-v1.5": 6_738_415_616,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
    "microsoft/wavlm-large": 315_453_120,
    "facebook/hubert-large-ll60k": 315_438_720,
}
"""hub id -> parameters, as its weights on the hub have them"""
ENGLISH = {f"openai/whisper-{size}.en": f"openai/whisper-{size}" for size in ("tiny", "base", "small", "medium")}
"""has one token less, and the width of its embedding fewer parameters"""


def parameters(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


def without(model: str) -> Any:
    speech = any(name in model for name in ("whisper", "wavlm", "hubert"))
    with without_weights():
        return pretrained(AutoModel if speech else AutoModelForCausalLM, model, dtype=torch.float32)[0]


@pytest.mark.parametrize("model", PUBLISHED)
def test_a_shape_has_the_parameters_that_are_published(model: str) -> None:
    built = without(model)
    assert parameters(built) == PUBLISHED[model]
    assert {p.device.type for p in built.parameters()} == {"meta"}


@pytest.mark.parametrize("model", ENGLISH)
def test_an_english_whisper_has_one_token_less(model: str) -> None:
    built = without(model)
    assert parameters(built) == PUBLISHED[ENGLISH[model]] - built.config.d_model


def test_every_shape_is_counted() -> None:
    there = {str(path.parent.relative_to(SHAPES)) for path in SHAPES.glob("*/*/config.json")}
    assert there == PUBLISHED.keys() | ENGLISH.keys()
    assert set(HUB_IDS) == set(ASSETS)
    assert set(HUB_IDS.values()) <= there


@pytest.mark.parametrize("asset", HUB_IDS)
def test_a_packaged_model_has_the_shape_of_the_one_on_the_hub(asset: str) -> None:
    folder = assets_root() / asset
    if not is_current(folder, ASSETS[asset]):
        pytest.skip(f"{asset} is not fetched")
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        stored = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    built = without(f"asset:{asset}")
    mine = {name: tuple(p.shape) for name, p in built.named_parameters()}
    assert {name.removeprefix("model."): shape for name, shape in stored.items()} == {
        name.removeprefix("model."): shape for name, shape in mine.items()
    }


def test_a_config_alone_is_enough_without_weights_and_never_with_them(tiny_llm: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny_llm / "config.json").read_text())
    with without_weights():
        decoder = CausalLMDecoder(model=str(tmp_path), dtype="bf16")
    real = CausalLMDecoder(model=str(tiny_llm), dtype="bf16")
    assert parameters(decoder) == parameters(real)
    assert {(p.device.type, p.dtype) for p in decoder.parameters()} == {("meta", torch.bfloat16)}
    assert {p.device.type for p in real.parameters()} == {"cpu"}
    with pytest.raises(OSError, match="no file named"):
        CausalLMDecoder(model=str(tmp_path))


def test_an_error_inside_leaves_loading_as_it_was(tiny_llm: Path) -> None:
    with pytest.raises(AssetError), without_weights():
        place_of("nobody/knows-this")
    assert place_of("nobody/knows-this") == "nobody/knows-this"
    assert {p.device.type for p in CausalLMDecoder(model=str(tiny_llm)).parameters()} == {"cpu"}


def test_the_cache_of_the_hub_knows_better_than_the_table(
    tiny_llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--Qwen--Qwen2.5-7B-Instruct"
    (cached / "snapshots/abc").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text("abc")
    (cached / "snapshots/abc/config.json").write_text((tiny_llm / "config.json").read_text())
    with without_weights():
        assert place_of("Qwen/Qwen2.5-7B-Instruct") == str(cached / "snapshots/abc")
        assert place_of("lmsys/vicuna-7b-v1.5") == str(SHAPES / "lmsys/vicuna-7b-v1.5")


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("nobody/knows-this", AssetError, r"config\.json --local-dir .* Known without it: .*Qwen/Qwen2\.5-7B-Instruct"),
        ("asset:whisper-tny.en", UnknownNameError, "whisper-tiny.en"),
        ("../../not here", AssetError, "there is no such folder"),
    ],
)
def test_a_model_of_unknown_sizes_is_refused(model: str, error: type[Exception], message: str) -> None:
    with without_weights(), pytest.raises(error, match=message):
        place_of(model)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with without_weights(), pytest.raises(AssetError, match=r"has no config\.json"):
        place_of(str(tmp_path))
