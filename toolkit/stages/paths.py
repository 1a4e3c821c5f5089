"""Where the stages keep their files: said once, so that no two stages can disagree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from toolkit.config import Config, is_given, load_config, require
from toolkit.data.fingerprint import PLACES

SPLITS = ("train", "dev", "test")
CONFIG = "config.yaml"
"""beside a checkpoint: the configuration it was trained with"""
SUMMARY = "summary.json"
"""beside the cuts of a split: what is in them, and a digest of the settings and files they were made from"""

ENCODER_TRAINING = ("encoder", *(f"encoder_{key}" for key in ("learning_rate", "rank", "alpha", "dropout", "targets")))
"""keys of `train` that say what of the encoder is trained"""


def cuts_path(config: Config, split: str) -> Path:
    """Return the cuts of a split."""
    return Path(config.data_dir) / split / "cuts.jsonl.gz"


def answers_folder(config: Config, split: str, key: str) -> Path:
    """Return the folder of a text LLM's answers on a split; `key` is the LLM's fingerprint."""
    return Path(config.data_dir) / split / "answers" / key


def hypotheses_path(config: Config, split: str, system: str) -> Path:
    """Return the hypotheses of one system of this experiment."""
    return Path(require(config.exp_dir, "exp_dir")) / "decode" / split / f"{system}.jsonl"


def benchmark_folder(config: Config, split: str) -> Path:
    """Return the folder of the raw answers of this experiment's benchmark."""
    return Path(require(config.exp_dir, "exp_dir")) / "bench" / split


def checkpoint_folder(config: Config) -> Path:
    """Return the folder of the trained weights."""
    return Path(require(config.exp_dir, "exp_dir")) / "checkpoint"


def as_trained(config: Config, folder: Path | None = None) -> Config:
    """Return the configuration with all that decides what a trained model is taken from its checkpoint.

    By default the checkpoint is this experiment's.

    Where the models lie, and in which precision they run, is the caller's; how they are used is the checkpoint's.
    The markers are among it; an utterance that is heard whole, as in decoding, has none.
    """
    path = (folder or checkpoint_folder(config)) / CONFIG
    if not path.exists():
        return config
    saved = load_config(path)
    return replace(
        config,
        encoder=_elsewhere(saved.encoder, config.encoder, PLACES),
        decoder=_elsewhere(saved.decoder, config.decoder, ("model", "dtype")),
        adapter=saved.adapter,
        interleaver=saved.interleaver,
        loss=saved.loss,
        cut=saved.cut,
        train=replace(config.train, **{key: getattr(saved.train, key) for key in ENCODER_TRAINING}),
        system=saved.system,
        speech_marker=saved.speech_marker,
        text_marker=saved.text_marker,
        seed=saved.seed,
    )


def with_absolute_files(encoder: dict[str, Any]) -> dict[str, Any]:
    """Return the options of an encoder that a checkpoint can keep: files beside it are found from any folder."""
    result = dict(encoder)
    for key, value in encoder.items():
        if isinstance(value, dict):
            result[key] = with_absolute_files(value)
        elif key == "centroids" and Path(value).is_file():
            result[key] = str(Path(value).resolve())
    return result


def _elsewhere(saved: dict[str, Any], given: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of a part as saved, but for `keys`, which the caller may give for the same kind of part."""
    result = dict(saved)
    for key, value in saved.items():
        if isinstance(value, dict) and isinstance(given.get(key), dict):
            result[key] = _elsewhere(value, given[key], keys)
        elif key in keys and given.get("name") == saved.get("name") and is_given(given.get(key)):
            result[key] = given[key]
    return result
