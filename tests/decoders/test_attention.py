"""Attention by written-out products gives what torch's kernel gives, forward and backward."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from toolkit.decoders import attention
from toolkit.decoders.attention import NAME, attend, attend_short_rows
from toolkit.decoders.causal_lm import CausalLMDecoder


class Layer(nn.Module):
    num_key_value_groups = 3
    is_causal = True


def causal(rows: int, length: int, seen: int) -> Tensor:
    """Return a mask in which the last row does not see the first position of what stands before."""
    mask = torch.ones(length, seen, dtype=torch.bool).tril(seen - length).repeat(rows, 1, 1, 1)
    mask[-1, :, :, 0] = False
    return mask


def attended(how: Any, mask: Tensor | None, length: int, seen: int, dtype: torch.dtype, **more: Any) -> list[Tensor]:
    """Return what is attended to, and the gradients of queries, keys and values."""
    chance = torch.Generator().manual_seed(0)
    shapes = (2, length, 6 * 8), (2, seen, 2 * 8), (2, seen, 2 * 8)
    parts = [torch.randn(shape, generator=chance).to(dtype).requires_grad_() for shape in shapes]
    heads = [part.view(2, part.shape[1], -1, 8).transpose(1, 2) for part in parts]
    found, weights = how(Layer(), *heads, mask, **more)
    assert weights is None
    found.backward(torch.randn(found.shape, generator=chance).to(dtype))
    return [found.detach(), *(part.grad for part in parts if part.grad is not None)]


@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("masked", ["causal", "bool", "added"])
def test_products_give_what_the_kernel_gives(
    masked: str, scaling: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    length, seen = (5, 5) if masked == "causal" else (5, 9)
    mask = None if masked == "causal" else causal(2, length, seen)
    if mask is not None and masked == "added":
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    wanted = attended(sdpa_attention_forward, mask, length, seen, torch.float32, scaling=scaling)
    monkeypatch.setattr(attention, "sdpa_attention_forward", None)  # nothing of this is for the kernel
    for one, other in zip(attended(attend, mask, length, seen, torch.float32, scaling=scaling), wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_in_bf16_they_are_no_further_from_the_truth() -> None:
    mask = causal(2, 40, 60)
    truth = attended(sdpa_attention_forward, mask, 40, 60, torch.float32)
    kernel = attended(sdpa_attention_forward, mask, 40, 60, torch.bfloat16)
    ours = attended(attend, mask, 40, 60, torch.bfloat16)
    for right, one, other in zip(truth, ours, kernel, strict=True):
        assert (one.float() - right).norm() < 1.5 * (other.float() - right).norm()


@pytest.mark.parametrize("case", ["long", "no gradient", "dropout", "asked for more", "not causal"])
def test_what_is_not_for_them_goes_to_the_kernel(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Tensor | None] = []

    def kernel(
        _: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *rest: Any, **more: Any
    ) -> Any:
        asked.append(mask)
        return query.transpose(1, 2) + 0 * (key.sum() + value.sum()), None

    monkeypatch.setattr(attention, "sdpa_attention_forward", kernel)
    if case == "long":
        monkeypatch.setattr(attention, "SHORT", {torch.float32: 24})
    options: dict[str, dict[str, Any]] = {
        "dropout": {"dropout": 0.1}, "asked for more": {"s_aux": torch.zeros(6)}, "not causal": {"is_causal": False}
    }  # fmt: skip
    if case == "no gradient":
        with torch.no_grad():
            attend(Layer(), torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), None)
    else:
        attended(attend, None, 5, 5, torch.float32, **options.get(case, {}))
    assert asked == [None]


def test_a_decoder_attends_so_where_the_kernel_is_what_it_has(tiny_llm: Path) -> None:
    lm = CausalLMDecoder(model=str(tiny_llm)).lm
    assert lm.config._attn_implementation == NAME
    lm.set_attn_implementation("eager")
    attend_short_rows(lm)
    assert lm.config._attn_implementation == "eager"
