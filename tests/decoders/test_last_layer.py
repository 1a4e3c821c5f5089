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


def test_a_layer_that_somebody_listens_to_runs_whole(tmp_path: Path) -> None:
    decoder = decoder_of("llama", tmp_path)
    seen: list[tuple[int, ...]] = []
    decoder.lm.base_model.layers[-1].mlp.register_forward_hook(
        lambda _module, _given, output: seen.append(tuple(output.shape[:2]))
    )
    computed(decoder, opened=False)
    assert seen == [(3, 11)]


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


def test_the_layer_is_left_as_it_was(tmp_path: Path) -> None:
    decoder = decoder_of("llama", tmp_path)
    layer = decoder.lm.base_model.layers[-1]
    with last_layer.last_layer_at(decoder.lm.base_model, torch.tensor([0]), torch.tensor([0])) as alone:
        assert alone
        assert "forward" in vars(layer)
    assert "forward" not in vars(layer)
    computed(decoder)
    assert "forward" not in vars(layer)
