"""Reads CTranslate2's `model.bin` (version 6) and turns a Whisper model in it into a Hugging Face folder.

The format, all numbers little-endian: `u32` version 6; name of the model's kind; `u32` its revision; `u32`
number of variables; per variable its name, `u8` rank, `u32` per dimension, `u8` type, `u32` number of bytes,
the bytes; `u32` number of aliases; per alias its name and the name it stands for. A name is `u16` length and
as many bytes, the last of them NUL. Nothing in the file can run code, and every read is bounds-checked.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.assets.whisper_sidecars import write_sidecars
from toolkit.assets.whisper_weights import whisper_weights
from toolkit.errors import AssetError

Array = NDArray[Any]

_VERSION = 6
_TYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(name) for number, name in enumerate(("<f4", "<i1", "<i2", "<i4", "<f2"))
}
_MAX_RANK = 8


@dataclass(frozen=True)
class Model:
    """What a `model.bin` holds."""

    kind: str
    """Kind of model, such as `WhisperSpec`."""
    revision: int
    """Revision of that kind's layout."""
    tensors: dict[str, Array]
    """Variables and aliases by name, read-only views of the file's bytes."""


class _Cursor:
    """Walks over bytes and refuses to leave them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> memoryview:
        """Return the next `count` bytes."""
        end = self.position + count
        if end > len(self.data):
            raise AssetError(
                f"model.bin is truncated: it has {len(self.data)} bytes, "
                f"but {count} more are needed at byte {self.position}"
            )
        piece = memoryview(self.data)[self.position : end]
        self.position = end
        return piece

    def number(self, code: str) -> int:
        """Return the next number; `code` is its type as `struct` names it."""
        return int(struct.unpack("<" + code, self.take(struct.calcsize(code)))[0])

    def name(self) -> str:
        """Return the next name."""
        raw = bytes(self.take(self.number("H")))
        if not raw.endswith(b"\0") or not raw[:-1].isascii():
            raise AssetError(f"model.bin has no proper name before byte {self.position}: {raw[:40]!r}")
        return raw[:-1].decode("ascii")


def read_model(source: bytes | Path) -> Model:
    """Read a CTranslate2 model.

    Args:
        source: the contents of `model.bin`, or the path to it.

    Returns:
        Its kind, revision and tensors.

    Raises:
        AssetError: another version of the format, a truncated file, bytes left over, a type that we do not
            read, or sizes that contradict each other.
    """
    cursor = _Cursor(source.read_bytes() if isinstance(source, Path) else source)
    version = cursor.number("I")
    if version != _VERSION:
        raise AssetError(f"model.bin is of CTranslate2 format version {version}; only {_VERSION} is read")
    kind, revision = cursor.name(), cursor.number("I")
    tensors: dict[str, Array] = {}
    for _ in range(cursor.number("I")):
        name = cursor.name()
        if name in tensors:
            raise AssetError(f"model.bin holds '{name}' twice")
        tensors[name] = _tensor(cursor, name)
    for _ in range(cursor.number("I")):
        alias, target = cursor.name(), cursor.name()
        if target not in tensors:
            raise AssetError(f"model.bin says that '{alias}' is '{target}', which it does not hold")
        tensors[alias] = tensors[target]
    if cursor.position != len(cursor.data):
        raise AssetError(f"model.bin has {len(cursor.data) - cursor.position} bytes after its end")
    return Model(kind, revision, tensors)


def _tensor(cursor: _Cursor, name: str) -> Array:
    rank = cursor.number("B")
    if rank > _MAX_RANK:
        raise AssetError(f"model.bin: '{name}' has {rank} dimensions, which cannot be")
    shape = tuple(cursor.number("I") for _ in range(rank))
    code, size = cursor.number("B"), cursor.number("I")
    if code not in _TYPES:
        raise AssetError(f"model.bin: '{name}' is of type number {code}; types {sorted(_TYPES)} are read")
    if prod(shape) * _TYPES[code].itemsize != size:
        raise AssetError(f"model.bin: '{name}' of shape {shape} and type {_TYPES[code]} has {size} bytes")
    return np.frombuffer(cursor.take(size), _TYPES[code]).reshape(shape)


def convert_whisper(member_files: Mapping[str, bytes | Path], folder: Path) -> None:
    """Write an ordinary Hugging Face Whisper folder; the weights keep their precision, so they are exact.

    Args:
        member_files: `model.bin`, `config.json` and `tokenizer.json` of the CTranslate2 model, as bytes or
            paths.
        folder: an existing, empty folder. Gets `model.safetensors`, the configuration of the model, of
            generation and of the mel filters, and the tokenizer.

    Raises:
        AssetError: not a Whisper model, or not laid out as expected.
    """
    from safetensors.numpy import save_file

    model = read_model(member_files["model.bin"])
    if model.kind != "WhisperSpec":
        raise AssetError(f"model.bin holds a '{model.kind}', not a Whisper model ('WhisperSpec')")
    weights = whisper_weights(model.tensors)
    write_sidecars(
        folder,
        weights,
        heads=(_heads(model, "encoder"), _heads(model, "decoder")),
        published=_text(member_files["config.json"]),
        tokenizer=_text(member_files["tokenizer.json"]),
    )
    # "format" is what transformers asks of a safetensors file before it loads it
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _heads(model: Model, half: str) -> int:
    if f"{half}/num_heads" not in model.tensors:
        raise AssetError(f"model.bin has no '{half}/num_heads'")
    return int(model.tensors[f"{half}/num_heads"])


def _text(source: bytes | Path) -> str:
    return (source.read_bytes() if isinstance(source, Path) else source).decode("utf-8")
