"""The last layer at asked positions: the scores and gradients of all positions, and what never runs so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.decoders.test_joined import computed, decoder_of
from toolkit.decoders import last_layer
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.interfaces import DECODERS


def widths(decoder: CausalLMDecoder) -> list[tuple[int, ...]]:
    """Listen to the MLP of the last layer but one and to the final norm: the shapes (B, N) that they see."""
    seen: list[tuple[int, ...]] = []
    model = decoder.lm.base_model
    for module in (model.layers[-2].mlp, model.norm):
        module.register_forward_hook(lambda _module, given, _output: seen.append(tuple(given[0].shape[:2])))
    return seen


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("family", ["llama", "mistral", "mistral with a window", "qwen2", "qwen3"])
def test_scores_and_gradients_are_those_of_all_positions(
    family: str, opened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoder_of(family, tmp_path)
    seen = widths(decoder)
    ours = computed(decoder, opened=opened)
    # Rows of 9, 7 and 12 up to the last position asked, of which three each are asked: 9 of 3 x 11.
    assert seen[-2:] == [(3, 11), (1, 9)]
    monkeypatch.setattr(last_layer, "ALIKE", ())
    theirs = computed(decoder, opened=opened)
    assert seen[-2:] == [(3, 11), (3, 11)]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("to", ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"])
def test_a_layer_that_somebody_listens_to_runs_whole(to: str, tmp_path: Path) -> None:
    decoder = decoder_of("llama", tmp_path)
    seen: list[tuple[int, ...]] = []

    def listen(_module: Any, first: Any, *_others: Any) -> None:
        seen.append(tuple(first[0].shape[:2]))

    getattr(decoder.lm.base_model.layers[-1].mlp, f"register_{to}")(listen)
    computed(decoder, opened=False)
    assert seen == [(3, 11)]


def test_the_last_layer_is_the_last_that_runs(tmp_path: Path) -> None:
    decoder = decoder_of("llama", tmp_path)
    decoder.lm.config.num_hidden_layers -= 1
    model = decoder.lm.base_model
    with last_layer.last_layer_at(model, torch.tensor([0]), torch.tensor([0])) as alone:
        assert alone
        assert ["forward" in vars(layer) for layer in model.layers] == [*[False] * (len(model.layers) - 2), True, False]


@pytest.mark.parametrize("audio_only", [True, False])
def test_lora_that_acts_on_speech_alone_runs_whole(audio_only: bool, tmp_path: Path) -> None:
    decoder_of("llama", tmp_path)
    told = {"name": "lora", "model": str(tmp_path / "llm"), "targets": ["down_proj"], "audio_only": audio_only}
    lora: Any = DECODERS.build(told)
    seen = widths(lora)
    rows = [torch.randn(length, lora.embedding_dim) for length in (9, 7)]
    speech = [torch.arange(len(row)) < 3 for row in rows]
    lora.outputs(rows, [torch.arange(5, len(row)) for row in rows], audio=speech).logits.sum().backward()
    assert seen[-1] == ((2, 9) if audio_only else (1, 6))


def test_lora_in_the_last_mlp_learns_as_at_all_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder_of("llama", tmp_path)
    told = {"name": "lora", "model": str(tmp_path / "llm"), "targets": ["up_proj", "down_proj"]}
    rows = [torch.randn(length, 48) for length in (9, 7)]

    def slopes() -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        lora: Any = DECODERS.build(told)
        learning = {name: each for name, each in lora.named_parameters() if each.requires_grad}
        for each in learning.values():
            torch.nn.init.normal_(each, std=0.1)  # B begins as zeros, and A would have no gradient
        lora.outputs(rows, [torch.arange(5, len(row)) for row in rows]).logits.logsumexp(-1).sum().backward()
        return {name: each.grad for name, each in learning.items()}

    ours = slopes()
    monkeypatch.setattr(last_layer, "ALIKE", ())
    theirs = slopes()
    assert any("layers.1.mlp" in name for name in theirs)
    assert all(float(each.abs().max()) > 0 for each in theirs.values())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_layer_is_left_as_it_was(tmp_path: Path) -> None:
    decoder = decoder_of("llama", tmp_path)
    layer = decoder.lm.base_model.layers[-1]
    with last_layer.last_layer_at(decoder.lm.base_model, torch.tensor([0]), torch.tensor([0])) as alone:
        assert alone
        assert "forward" in vars(layer)
    assert "forward" not in vars(layer)
    computed(decoder)
    assert "forward" not in vars(layer)
