"""Where the stages keep their files: said once, so that no two stages can disagree."""

from __future__ import annotations

from pathlib import Path

from toolkit.config import Config

SPLITS = ("train", "dev", "test")
SUMMARY = "summary.json"
"""beside the cuts of a split: what is in them, and a digest of the settings and files they were made from"""


def cuts_path(config: Config, split: str) -> Path:
    """Return the cuts of a split."""
    return Path(config.data_dir) / split / "cuts.jsonl.gz"


def answers_folder(config: Config, split: str, key: str) -> Path:
    """Return the folder of a text LLM's answers on a split; `key` is the LLM's fingerprint."""
    return Path(config.data_dir) / split / "answers" / key


def hypotheses_path(config: Config, split: str, system: str) -> Path:
    """Return the hypotheses of one system of this experiment."""
    return Path(config.exp_dir) / "decode" / split / f"{system}.jsonl"


def checkpoint_folder(config: Config) -> Path:
    """Return the folder of the trained weights."""
    return Path(config.exp_dir) / "checkpoint"
