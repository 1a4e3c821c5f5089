"""Attention layers of a frozen LLM in training on a CPU: queries, keys and values by one product, laid out once.

transformers has them by three products, turns each by its position with five operators, and copies them into the order
that attention takes; backward all of that again. Here one product makes all three (backward: one, where three are
added up), and one function turns and lays them out as they are read. The three weights become parts of one, so they are
in memory once. With the norms of `norms`, 512 rows of SmolLM2-135M in bf16 took 31.2 s and 33.1 without (two cores,
medians of three).

Keys and values of what stands before are read and not written, so only who needs no cache afterwards may run so.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.cache_utils import DynamicCache, DynamicLayer

from toolkit.decoders.attention import NAME, SHORT, bias_of, slopes, weighed
from toolkit.decoders.instead import listened_to, run_instead

ALIKE = ("LlamaAttention", "MistralAttention", "Qwen2Attention")
"""classes of transformers that attend so: plain rotation, heads in groups, nothing between projection and rotation"""
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class Projections(NamedTuple):
    """The three projections of a layer as one."""

    weight: Tensor
    """((H + 2 G) D, width)"""
    bias: Tensor | None
    heads: int
    """H, of queries"""
    groups: int
    """G, of keys"""


class JoinedAttention:
    """The attention layers of a model; inside `with` those that can run so."""

    def __init__(self, model: nn.Module) -> None:
        self._model = [model]  # in a list, so that whoever holds this does not own the model twice
        self._joined: dict[nn.Module, Projections] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is joined behind when copied: weights of a copy are no parts of it."""
        return {"_model": self._model, "_joined": {}}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Join what is not joined yet, and run on it inside the `with`; nobody may need the cache afterwards."""
        layers = self._layers() if torch.is_grad_enabled() else []
        for layer in layers:
            if not _is_part(layer, self._joined.get(layer)):
                self._joined[layer] = _join(layer)
        with run_instead({layer: partial(_forward, layer, self._joined[layer]) for layer in layers}):
            yield

    def _layers(self) -> list[nn.Module]:
        (model,) = self._model
        layers: Any = getattr(model.base_model, "layers", ())
        found: list[Any] = [getattr(layer, "self_attn", None) for layer in layers]
        return [each for each in found if type(each).__name__ in ALIKE and _can_join(each)]


def _can_join(layer: Any) -> bool:
    """Tell whether short rows are attended to by products here, and the projections plain, frozen and whole."""
    if layer.config._attn_implementation != NAME:
        return False
    linears = [getattr(layer, name) for name in PROJECTIONS]
    if any(type(linear) is not nn.Linear or listened_to(linear) for linear in linears):
        return False  # another kind of layer, or one that somebody listens to
    parameters = [parameter for linear in linears for parameter in linear.parameters()]
    plain = all(type(p.data) is Tensor and p.device.type == "cpu" and not p.requires_grad for p in parameters)
    return plain and len({linear.bias is None for linear in linears}) == 1 and "forward" not in vars(layer)


def _is_part(layer: nn.Module, joined: Projections | None) -> bool:
    """Tell whether the layer's weights and biases are still where they were joined."""
    if joined is None:
        return False
    linears = [getattr(layer, name) for name in PROJECTIONS]
    return _in_a_row([linear.weight for linear in linears], joined.weight) and (
        joined.bias is None or _in_a_row([linear.bias for linear in linears], joined.bias)
    )


def _in_a_row(parts: Seq[Tensor], whole: Tensor) -> bool:
    start = whole.data_ptr()
    for part in parts:
        if part.data_ptr() != start or part.dtype != whole.dtype:
            return False
        start += part.nbytes
    return True


def _join(layer: nn.Module) -> Projections:
    """Put the projections into one, of which they are parts from now on."""
    linears = [getattr(layer, name) for name in PROJECTIONS]
    weight = torch.cat([linear.weight.data for linear in linears])
    bias = None if linears[0].bias is None else torch.cat([linear.bias.data for linear in linears])
    start = 0
    for linear in linears:
        end = start + linear.out_features
        linear.weight.data = weight[start:end]
        if bias is not None:
            linear.bias.data = bias[start:end]
        start = end
    width: Any = layer.head_dim
    return Projections(weight, bias, linears[0].out_features // width, linears[1].out_features // width)


def _forward(
    layer: Any,
    joined: Projections,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    attention_mask: Tensor | None = None,
    past_key_values: Any = None,
    **more: Any,
) -> tuple[Tensor, Any]:
    """Attend as transformers asks its layer to, (B, N, width); what is long or unusual goes to the layer itself."""
    length, before = hidden_states.shape[1], _before(past_key_values, layer.layer_idx)
    seen = length if before is None else length + before[0].shape[2]
    learns = torch.is_grad_enabled() and hidden_states.requires_grad
    known = past_key_values is None or before is not None
    usual = known and position_embeddings[0].shape[-1] == layer.head_dim and not layer.training
    masked = attention_mask is not None or seen == length
    if not (learns and usual and masked and length * seen <= SHORT.get(hidden_states.dtype, 0)):
        found: tuple[Tensor, Any] = type(layer).forward(
            layer, hidden_states, position_embeddings=position_embeddings, attention_mask=attention_mask,
            past_key_values=past_key_values, **more,
        )  # fmt: skip
        return found
    every = functional.linear(hidden_states, joined.weight, joined.bias)
    bias = bias_of(attention_mask, length, seen, hidden_states.dtype)
    shape = joined.heads, joined.groups, layer.scaling
    heads: Tensor = _Heads.apply(every, *position_embeddings, before, bias, *shape)  # type: ignore[no-untyped-call]
    return layer.o_proj(heads), None


def _before(cache: Any, index: int) -> tuple[Tensor, Tensor] | None:
    """Return keys and values (B, G, P, D) of what stands before, None where there is nothing or it is not plain."""
    if type(cache) is not DynamicCache or index >= len(cache.layers):
        return None
    layer = cache.layers[index]
    return (layer.keys, layer.values) if type(layer) is DynamicLayer and layer.is_initialized else None


class _Heads(torch.autograd.Function):
    """Turns and attends: (B, N, (H + 2 G) D) and what stands before -> (B, N, H D)."""

    @staticmethod
    def forward(
        ctx: Any, every: Tensor, cos: Tensor, sin: Tensor, before: tuple[Tensor, Tensor] | None, bias: Tensor,
        heads: int, groups: int, scaling: float,
    ) -> Tensor:  # fmt: skip
        rows, length, width = *every.shape[:2], cos.shape[-1]
        parts = every.view(rows, length, heads + 2 * groups, width).transpose(1, 2)
        cos, sin = cos[:, None], sin[:, None]
        past = 0 if before is None else before[0].shape[2]
        query = every.new_empty(rows, heads, length, width)
        key, value = (every.new_empty(rows, groups, past + length, width) for _ in range(2))
        if before is not None:
            key[:, :, :past], value[:, :, :past] = before
        value[:, :, past:] = parts[:, heads + groups :]
        _turn(parts[:, :heads], cos, sin, query)
        _turn(parts[:, heads : heads + groups], cos, sin, key[:, :, past:])
        # The heads that share a key are more rows of one product, so that no key is repeated.
        query, key, value = (part.view(rows * groups, -1, width) for part in (query, key, value))
        weights = weighed(query, key, bias, scaling)
        ctx.save_for_backward(query, key, value, weights, cos, sin)
        ctx.sizes = rows, length, heads, groups, scaling
        return torch.bmm(weights, value).view(rows, heads, length, width).transpose(1, 2).flatten(2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights, cos, sin = ctx.saved_tensors
        rows, length, heads, groups, scaling = ctx.sizes
        width = cos.shape[-1]
        slope = slope.view(rows, length, heads, width).transpose(1, 2).reshape(rows * groups, -1, width)
        of_query, of_key, of_value = slopes(slope, query, key, value, weights, scaling)
        found = slope.new_empty(rows, length, heads + 2 * groups, width)
        parts = found.transpose(1, 2)
        new = [of.view(rows, groups, -1, width)[:, :, -length:] for of in (of_key, of_value)]
        _turn(of_query.view(rows, heads, length, width), cos, -sin, parts[:, :heads])
        _turn(new[0], cos, -sin, parts[:, heads : heads + groups])
        parts[:, heads + groups :] = new[1]
        return found.view(rows, length, -1), *[None] * 7


def _turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Rotate pairs (i, i + D / 2) of (..., D); by `-sin` it is the gradient's way back."""
    half = x.shape[-1] // 2
    torch.mul(x, cos, out=out)
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
