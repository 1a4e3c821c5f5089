"""Renames the variables of a CTranslate2 Whisper into the weights of transformers' Whisper.

CTranslate2 stacks projections of the same input: `linear_0` of self-attention is query, key and value, and
`linear_1` of cross-attention is key and value. Everything else is the same under another name.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import AssetError

Array = NDArray[Any]

_SETTINGS = {
    "decoder/activation": 3,  # CTranslate2's number for the exact, erf-based GELU, which is Whisper's
    "decoder/pre_norm": 1,
    "decoder/scale_embeddings": 0,
    "decoder/alibi": 0,
    "decoder/start_from_zero_embedding": 0,
}
_IGNORED = {
    "decoder/alignment_heads",  # CTranslate2's own decoding options
    "decoder/alignment_layer",
    "encoder/num_heads",  # go into config.json
    "decoder/num_heads",
    "decoder/projection/weight",  # the embedding again; transformers ties the two itself
}


def whisper_weights(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Make the state dict of `WhisperForConditionalGeneration`.

    Args:
        tensors: variables and aliases of a CTranslate2 `WhisperSpec`.

    Returns:
        Weights by transformers' names, of the precision they came in.

    Raises:
        AssetError: a variable is missing, quantised or unknown, or a setting is not Whisper's.
    """
    for name, value in _SETTINGS.items():
        if name in tensors and int(tensors[name]) != value:
            raise AssetError(f"model.bin: '{name}' is {int(tensors[name])}; Whisper has {value}")
    renaming = _Renaming(tensors)
    for half in ("encoder", "decoder"):
        renaming.move(f"{half}/position_encodings/encodings", f"model.{half}.embed_positions.weight")
        renaming.norm(half, f"model.{half}.layer_norm")
        for index in range(_layers(tensors, half)):
            _layer(renaming, f"{half}/layer_{index}", f"model.{half}.layers.{index}", cross=half == "decoder")
    renaming.linear("encoder/conv1", ["model.encoder.conv1"])
    renaming.linear("encoder/conv2", ["model.encoder.conv2"])
    renaming.move("decoder/embeddings/weight", "model.decoder.embed_tokens.weight")
    return renaming.finish()


def _layers(tensors: Mapping[str, Array], half: str) -> int:
    return sum(name.startswith(f"{half}/") and name.endswith("/ffn/linear_0/weight") for name in tensors)


def _layer(renaming: "_Renaming", old: str, new: str, *, cross: bool) -> None:
    renaming.norm(f"{old}/self_attention", f"{new}.self_attn_layer_norm")
    renaming.linear(f"{old}/self_attention/linear_0", [f"{new}.self_attn.{part}_proj" for part in "qkv"])
    renaming.linear(f"{old}/self_attention/linear_1", [f"{new}.self_attn.out_proj"])
    if cross:
        renaming.norm(f"{old}/attention", f"{new}.encoder_attn_layer_norm")
        renaming.linear(f"{old}/attention/linear_0", [f"{new}.encoder_attn.q_proj"])
        renaming.linear(f"{old}/attention/linear_1", [f"{new}.encoder_attn.{part}_proj" for part in "kv"])
        renaming.linear(f"{old}/attention/linear_2", [f"{new}.encoder_attn.out_proj"])
    renaming.norm(f"{old}/ffn", f"{new}.final_layer_norm")
    renaming.linear(f"{old}/ffn/linear_0", [f"{new}.fc1"])
    renaming.linear(f"{old}/ffn/linear_1", [f"{new}.fc2"])


class _Renaming:
    """Moves variables to their new names and knows which are left."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self.left = dict(tensors)
        self.made: dict[str, Array] = {}

    def take(self, name: str) -> Array:
        """Return a variable and strike it off."""
        if name not in self.left:
            raise AssetError(f"model.bin has no '{name}'")
        tensor = self.left.pop(name)
        if tensor.dtype.kind != "f":
            raise AssetError(f"model.bin: '{name}' is quantised ({tensor.dtype}); only f16 and f32 are read")
        return tensor

    def move(self, old: str, new: str) -> None:
        """Give one variable its new name."""
        self.made[new] = self.take(old)

    def norm(self, old: str, new: str) -> None:
        """Give a layer norm its new name."""
        self.move(f"{old}/layer_norm/gamma", f"{new}.weight")
        self.move(f"{old}/layer_norm/beta", f"{new}.bias")

    def linear(self, old: str, new: list[str]) -> None:
        """Cut a stack of linear maps (or one) into equal parts and name each."""
        for part in ("weight", "bias"):
            for name, piece in zip(new, np.split(self.take(f"{old}/{part}"), len(new)), strict=True):
                if not (part == "bias" and name.endswith("k_proj")):
                    self.made[f"{name}.{part}"] = piece
                elif np.any(piece):  # Whisper's keys have no bias, so there would be no place for it
                    raise AssetError(f"model.bin: '{old}/bias' has a bias for the keys; Whisper has none")

    def finish(self) -> dict[str, Array]:
        """Return the weights, having made sure that nothing was forgotten."""
        unknown = self.left.keys() - _SETTINGS.keys() - _IGNORED
        if unknown:
            raise AssetError(f"model.bin holds what Whisper does not have: {', '.join(sorted(unknown))}")
        return {name: np.ascontiguousarray(tensor) for name, tensor in self.made.items()}
