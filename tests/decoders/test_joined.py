"""Projections joined into one: what transformers' own layers give, forward and backward, and the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from toolkit.decoders import joined
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.interfaces import DECODERS

SIZES = {
    "vocab_size": 40, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {}, "mistral": {"sliding_window": None}, "mistral with a window": {"sliding_window": 6}, "qwen2": {},
    "llama with biases": {"attention_bias": True}, "llama without groups": {"num_key_value_heads": 6},
}  # fmt: skip


def decoder_of(family: str, folder: Path, dtype: str = "fp32") -> CausalLMDecoder:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family.split()[0], **{**SIZES, **FAMILIES.get(family, {})})
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():  # biases begin at 0
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder / "llm")
    return CausalLMDecoder(model=str(folder / "llm"), dtype=dtype)


def computed(decoder: CausalLMDecoder, *, opened: bool = True) -> list[Tensor]:
    """Return the scores of rows of several lengths after prefixes of several lengths, and the gradient on the rows."""
    chance = torch.Generator().manual_seed(1)
    prefixes = [(3, 4, 5, 6), (3, 4), (3, 4, 5, 6)] if opened else []
    width, dtype = decoder.embedding_dim, decoder.lm.dtype
    given = [torch.randn(length, width, generator=chance).to(dtype).requires_grad_() for length in (9, 7, 12)]
    starts = [decoder.embed(torch.tensor(prefix)) for prefix in prefixes] or [given[0][:0]] * 3
    rows = [torch.cat(parts) for parts in zip(starts, given, strict=True)]
    outputs = decoder.outputs(rows, [torch.arange(len(row) - 4, len(row) - 1) for row in rows], prefixes)
    (outputs.logits.float() ** 2).sum().backward()
    return [outputs.logits.detach(), *(row.grad for row in given if row.grad is not None)]


def count_heads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how many layers ran joined."""
    ran: list[int] = []
    turn = joined._turn

    def counted(*given: Tensor) -> None:
        ran.append(1)
        turn(*given)

    monkeypatch.setattr(joined, "_turn", counted)
    return ran


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_joined_layers_give_what_their_own_give(
    family: str, packing: bool, opened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoder_of(family, tmp_path)
    if packing:
        decoder.pack()
    ran = count_heads(monkeypatch)
    ours = computed(decoder, opened=opened)
    assert len(ran) == 3 * 4 or "window" in family  # three layers: queries and keys, there and back
    monkeypatch.setattr(joined, "ALIKE", ())
    ran.clear()
    for one, other in zip(ours, computed(decoder, opened=opened), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
    assert not ran


def test_without_a_mask_each_position_sees_what_is_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = decoder_of("llama", tmp_path)  # transformers makes no mask for rows without padding
    ran = count_heads(monkeypatch)
    found = []
    for alike in (joined.ALIKE, ()):
        monkeypatch.setattr(joined, "ALIKE", alike)
        rows = torch.randn(2, 7, decoder.embedding_dim, generator=torch.Generator().manual_seed(1)).requires_grad_()
        logits = decoder.outputs(list(rows), [torch.arange(2, 7)] * 2).logits
        (logits**2).sum().backward()
        assert rows.grad is not None
        found.append((logits.detach(), rows.grad))
    assert len(ran) == 3 * 4
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_in_bf16_they_are_no_further_from_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = computed(decoder_of("llama", tmp_path))
    decoder = decoder_of("llama", tmp_path, "bf16")
    ours = computed(decoder)
    monkeypatch.setattr(joined, "ALIKE", ())
    for right, one, other in zip(truth, ours, computed(decoder), strict=True):
        assert (one.float() - right).norm() < 1.5 * (other.float() - right).norm()


def test_weights_are_in_memory_once_and_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = decoder_of("qwen2", tmp_path)
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    first = computed(decoder)
    after = decoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    attention: Any = decoder.lm.base_model.layers[0].self_attn
    held = {getattr(attention, name).weight.untyped_storage().data_ptr() for name in joined.PROJECTIONS}
    assert len(held) == 1
    decoder.load_state_dict({name: 2 * value for name, value in before.items()})  # written where it is
    doubled = computed(decoder)
    assert not torch.allclose(doubled[0], first[0])
    decoder.load_state_dict(before, assign=True)  # other memory
    decoder.requires_grad_(False)
    for one, other in zip(computed(decoder), first, strict=True):
        torch.testing.assert_close(one, other)
    with monkeypatch.context() as own:
        own.setattr(joined, "ALIKE", ())
        torch.testing.assert_close(computed(decoder)[0], first[0], rtol=1e-4, atol=1e-5)
    attention.v_proj.bias.data = attention.v_proj.bias.data + 1  # one alone
    moved = computed(decoder)[0]
    assert not torch.allclose(moved, first[0])
    monkeypatch.setattr(joined, "ALIKE", ())
    torch.testing.assert_close(computed(decoder)[0], moved, rtol=1e-4, atol=1e-5)


def test_only_frozen_layers_run_so_and_only_with_a_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = decoder_of("llama", tmp_path)
    ran = count_heads(monkeypatch)
    rows = [torch.randn(5, decoder.embedding_dim)]
    with torch.no_grad():
        decoder.outputs(rows, [torch.tensor([3])])
    decoder.outputs(rows, [torch.tensor([3])])  # nothing is learnt
    assert not ran
    learns: Any = DECODERS.build({"name": "lora", "model": str(tmp_path / "llm"), "targets": ["q_proj"]})
    computed(learns, opened=False)
    assert not ran
    computed(decoder)
    assert ran
    layers: Any = decoder.lm.base_model.layers
    assert all("forward" not in vars(layer.self_attn) for layer in layers)
