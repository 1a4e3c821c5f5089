"""Writes the small files that make Whisper weights a Hugging Face folder: configurations and tokenizer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from toolkit.errors import AssetError

_SAMPLE_RATE = 16_000  # Hz
_WINDOW = 30  # s: Whisper always sees this much
_HOP = 160  # samples: 10 ms between mel frames

_MULTILINGUAL_VOCABULARY = 51_865
"""From this size on a Whisper is multilingual: OpenAI's own rule (`Whisper.is_multilingual`)."""


def write_sidecars(
    folder: Path,
    weights: Mapping[str, NDArray[Any]],
    *,
    heads: tuple[int, int],
    published: str,
    tokenizer: str,
) -> None:
    """Write everything but the weights.

    Args:
        folder: where to.
        weights: by transformers' names; sizes and precision are read off them.
        heads: attention heads of encoder and decoder.
        published: CTranslate2's `config.json`: suppressed tokens, alignment heads.
        tokenizer: `tokenizer.json`, passed on unchanged.

    Raises:
        AssetError: the tokenizer lacks one of Whisper's special tokens.
    """
    ids = {token["content"]: int(token["id"]) for token in json.loads(tokenizer)["added_tokens"]}
    special = _Special(ids)
    dtype = str(weights["model.decoder.embed_tokens.weight"].dtype)
    decoding = {
        "bos_token_id": special["<|endoftext|>"],
        "eos_token_id": special["<|endoftext|>"],
        "pad_token_id": special["<|endoftext|>"],
        "decoder_start_token_id": special["<|startoftranscript|>"],
    }
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    _write(folder / "config.json", {**_model_config(weights, heads), **decoding, "dtype": dtype})
    generation = _generation_config(weights, json.loads(published), special)
    _write(folder / "generation_config.json", {**decoding, **generation})
    _write(folder / "preprocessor_config.json", _mel_config(weights))
    _write(folder / "tokenizer_config.json", _tokenizer_config(weights, special))


class _Special(dict[str, int]):
    """Special tokens' ids; a missing one is the user's wrong file, not our KeyError."""

    def __missing__(self, token: str) -> int:
        raise AssetError(f"tokenizer.json has no '{token}': it is not Whisper's")


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _model_config(weights: Mapping[str, NDArray[Any]], heads: tuple[int, int]) -> dict[str, Any]:
    """Read the sizes off the weights, so that the two cannot contradict each other."""
    config: dict[str, Any] = {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "is_encoder_decoder": True,
        "activation_function": "gelu",
        "scale_embedding": False,
        "tie_word_embeddings": True,
        "vocab_size": weights["model.decoder.embed_tokens.weight"].shape[0],
        "d_model": weights["model.encoder.conv1.weight"].shape[0],
        "num_mel_bins": weights["model.encoder.conv1.weight"].shape[1],
        "max_source_positions": weights["model.encoder.embed_positions.weight"].shape[0],
        "max_target_positions": weights["model.decoder.embed_positions.weight"].shape[0],
        # nothing is dropped or masked unless training asks for it
        "dropout": 0.0,
        "apply_spec_augment": False,
    }
    for half, count in zip(("encoder", "decoder"), heads, strict=True):
        config[f"{half}_layers"] = sum(
            name.startswith(f"model.{half}.") and name.endswith("fc1.weight") for name in weights
        )
        config[f"{half}_attention_heads"] = count
        config[f"{half}_ffn_dim"] = weights[f"model.{half}.layers.0.fc1.weight"].shape[0]
    return config


def _generation_config(
    weights: Mapping[str, NDArray[Any]], published: Mapping[str, Any], special: _Special
) -> dict[str, Any]:
    """Make what `generate` needs: how a transcript begins, and which tokens never occur in one."""
    config: dict[str, Any] = {
        "max_length": weights["model.decoder.embed_positions.weight"].shape[0],
        "return_timestamps": False,
        "no_timestamps_token_id": special["<|notimestamps|>"],
        "prev_sot_token_id": special["<|startofprev|>"],
        "suppress_tokens": published["suppress_ids"],
        "begin_suppress_tokens": published["suppress_ids_begin"],
        # (layer, head) pairs of the decoder whose attention follows the time: for word times
        "alignment_heads": published["alignment_heads"],
        "is_multilingual": _multilingual(weights),
    }
    if config["is_multilingual"]:
        languages = set(published["lang_ids"])
        config["lang_to_id"] = {token: number for token, number in special.items() if number in languages}
        config["task_to_id"] = {task: special[f"<|{task}|>"] for task in ("transcribe", "translate")}
        # without a task, generate leaves its token out of the prompt, and transcripts break off or loop;
        # a language saves the pass that would guess it. Callers override both.
        config["task"], config["language"] = "transcribe", "en"
    return config


def _multilingual(weights: Mapping[str, NDArray[Any]]) -> bool:
    return int(weights["model.decoder.embed_tokens.weight"].shape[0]) >= _MULTILINGUAL_VOCABULARY


def _mel_config(weights: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": weights["model.encoder.conv1.weight"].shape[1],
        "sampling_rate": _SAMPLE_RATE,
        "hop_length": _HOP,
        "n_fft": 400,
        "chunk_length": _WINDOW,
        "n_samples": _WINDOW * _SAMPLE_RATE,
        "nb_max_frames": _WINDOW * _SAMPLE_RATE // _HOP,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }


def _tokenizer_config(weights: Mapping[str, NDArray[Any]], special: _Special) -> dict[str, Any]:
    return {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        # in the order of their ids: transformers takes the last one's id + 1 for the time 0.00 s
        "extra_special_tokens": sorted(special.keys() - {"<|endoftext|>"}, key=lambda token: special[token]),
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": weights["model.decoder.embed_positions.weight"].shape[0],
    }
