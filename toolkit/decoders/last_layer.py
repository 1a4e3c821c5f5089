"""The last layer of an LLM at the positions that somebody asks for: what it makes of the others nobody reads.

Its keys and values are for all positions, its MLP and the last norm are not. Where answers are a quarter of their rows,
three quarters of one MLP are spared, there and back: 2 % of the products of SmolLM2-135M, which has 30 layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from toolkit.decoders.instead import listened_to, run_instead

ALIKE = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")
"""classes of transformers that are built so: norm, attention, sum, norm, MLP, sum"""


@contextmanager
def last_layer_at(model: nn.Module, rows: Tensor, positions: Tensor) -> Iterator[bool]:
    """Let a model's hidden states be (1, M, D) inside the `with`, of M positions (M,) of rows (M,); false if it cannot.

    A layer of another kind, or one that somebody listens to (it or its parts), runs as ever.
    """
    config: Any = model.config
    run = getattr(config.get_text_config(), "num_hidden_layers", None)
    layers: Any = getattr(model, "layers", ())[:run]
    last = layers[-1] if len(layers) else None
    if last is None or not _can(last):
        yield False
        return
    with run_instead({last: partial(_forward, last, (rows, positions))}):
        yield True


def _can(layer: nn.Module) -> bool:
    plain = type(layer).__name__ in ALIKE and "forward" not in vars(layer)
    return plain and not any(listened_to(module) for module in layer.modules())


def _forward(layer: Any, asked: tuple[Tensor, Tensor], hidden_states: Tensor, **more: Any) -> Tensor:
    """Run the layer on (B, N, D), to (1, M, D)."""
    attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **more)
    hidden: Tensor = (hidden_states + attended)[asked][None]
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))  # type: ignore[no-any-return]
