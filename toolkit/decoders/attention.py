"""Attention as training on a CPU has it: short rows, by products of matrices that are written out.

torch's own kernel is quick forward; backward, on rows of some 50 positions, it takes five times as long in bf16 as
these products and twice in fp32 (SmolLM2's heads), which was a quarter of a training step. As there, scores are of
fp32 whatever the weights are. In bf16 a layer is about as far from fp32 as with the kernel: outputs by 0.22 against
0.17 %, gradients by 0.22 to 0.37 against 0.31 to 0.43 %. What is long, or needs no gradient, or lies on another device,
goes to torch's kernel as before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "short_rows"
"""under which transformers knows it"""
SHORT = {torch.bfloat16: 2**15, torch.float32: 2**13}
"""scores of a head, at most: above, torch's kernel is about as quick, and needs less memory"""


def attend_short_rows(model: Any) -> None:
    """Let a model of transformers attend so, if torch's kernel is what it has and a CPU what it can run on."""
    has_kernel = model.config.get_text_config()._attn_implementation == "sdpa"
    if has_kernel and model._supports_attention_backend and not torch.cuda.is_available():
        model.set_attn_implementation(NAME)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers asks for it.

    Args:
        module: the layer.
        query: (B, H, N, D).
        key: (B, G, K, D), each for H / G heads.
        value: (B, G, K, D).
        attention_mask: (B, 1, N, K), true or 0 where a position is seen; None is all before it, if it is causal.
        dropout: of the weights.
        scaling: of the scores; None is 1 / sqrt(D).
        is_causal: whether None masks what comes after; None asks the layer.
        more: what some models ask for beside; torch's kernel then, which knows or refuses it.

    Returns:
        (B, N, H, D), and no weights.
    """
    rows, heads, length, width = query.shape
    groups, seen = key.shape[1:3]
    learns = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))
    usual = not dropout and all(more.get(name) is None for name in ("softcap", "position_bias", "s_aux", "cache"))
    masked = attention_mask is not None or (length == seen and (module.is_causal if is_causal is None else is_causal))
    short = query.device.type == "cpu" and length * seen <= SHORT.get(query.dtype, 0)
    if not (learns and usual and masked and short):
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **more
        )
    # The heads that share a key are more rows of one product, so that no key is repeated.
    parts = (part.reshape(rows * groups, -1, width) for part in (query, key, value))
    given = bias_of(attention_mask, length, seen, query.dtype), width**-0.5 if scaling is None else scaling
    found: Tensor = _Products.apply(*parts, *given)  # type: ignore[no-untyped-call]
    return found.view(rows, heads, length, width).transpose(1, 2).contiguous(), None


class _Products(torch.autograd.Function):
    """Attends: queries (B G, n N, D), keys and values (B G, K, D), bias (B or 1, 1, N, K) -> (B G, n N, D)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float) -> Tensor:
        weights = weighed(query, key, bias, scaling)
        ctx.save_for_backward(query, key, value, weights)
        ctx.scaling = scaling
        return torch.bmm(weights, value)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights = ctx.saved_tensors
        return *slopes(slope, query, key, value, weights, ctx.scaling), None, None


def weighed(query: Tensor, key: Tensor, bias: Tensor, scaling: float) -> Tensor:
    """Return how much of each position is seen: (B G, n N, D), (B G, K, D), (B or 1, 1, N, K) -> (B G, n N, K)."""
    scores = torch.bmm(query.float(), key.float().mT).mul_(scaling)
    length, seen = bias.shape[2:]
    scores.view(len(bias), -1, length, seen).add_(bias)
    return scores.softmax(-1).to(query.dtype)


def slopes(
    slope: Tensor, query: Tensor, key: Tensor, value: Tensor, weights: Tensor, scaling: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients on queries, keys and values, given that on what was seen, (B G, n N, D)."""
    scores = torch.bmm(slope, value.mT)
    scores = torch._softmax_backward_data(scores, weights, -1, scores.dtype).mul_(scaling)
    return torch.bmm(scores, key), torch.bmm(scores.mT, query), torch.bmm(weights.mT, slope)


def bias_of(mask: Tensor | None, length: int, seen: int, dtype: torch.dtype) -> Tensor:
    """Return what is added to the scores of N positions, (B or 1, 1, N, K); no mask is all before each, and itself."""
    if mask is None:
        mask = torch.ones(1, 1, length, seen, dtype=torch.bool).tril()
    return added(mask, dtype) if mask.dtype == torch.bool else mask


def added(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to scores: 0 where a position is seen, else as little as there is."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
