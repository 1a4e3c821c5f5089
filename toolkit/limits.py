"""Numbers that no stage can run with, refused by their key before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.errors import ConfigError

AT_LEAST: dict[str, int] = {
    "prepare.max_utterances": 0,
    "prepare.development": 0,
    "align.jobs": 1,
    "encode.batch_size": 1,
    "encode.shard_size": 1,
    "encode.copies": 0,
    "encode.verify": 0,
    "imitate.tasks_per_cut": 1,
    "imitate.max_new_tokens": 1,
    "imitate.batch_size": 1,
    "imitate.jobs": 1,
    "imitate.top_k": 0,
    "imitate.train_utterances": 0,
    "imitate.dev_utterances": 0,
    "imitate.test_utterances": 0,
    "server.concurrency": 1,
    "server.retries": 0,
    "train.steps": 0,
    "train.max_minutes": 0,
    "train.batch_size": 1,
    "train.micro_batch_size": 0,
    "train.batch_tokens": 0,
    "train.micro_batch_tokens": 0,
    "train.workers": 0,
    "train.weight_decay": 0,
    "train.clip": 0,
    "train.anchor": 0,
    "train.validate_every": 1,
    "train.validation_utterances": 0,
    "decode.batch_size": 1,
    "bench.utterances": 0,
    "bench.wordings": 0,
    "bench.knowledge": 0,
}
MORE_THAN_0 = ("prepare.max_duration", "server.timeout", "train.learning_rate", "train.rank_timeout")
SHARES = ("train.warmup", "imitate.concatenated")


def check_limits(config: Mapping[str, Any]) -> None:
    """Look at every number of the sections.

    Raises:
        ConfigError: naming each key that cannot be as it is, all at once.
    """
    wrong = []
    for key, value in _numbers(config).items():
        if key in AT_LEAST and not value >= AT_LEAST[key]:
            wrong.append(f"{key} is at least {AT_LEAST[key]}, not {value}")
        if key in MORE_THAN_0 and not value > 0:
            wrong.append(f"{key} is more than 0, not {value}")
        if key in SHARES and not 0 <= value <= 1:
            wrong.append(f"{key} is a share, 0 to 1, not {value}")
    if wrong:
        raise ConfigError("; ".join(wrong))


def _numbers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of the sections by their dotted key."""
    return {
        f"{section}.{key}": value
        for section, values in config.items()
        if isinstance(values, Mapping)
        for key, value in values.items()
        if isinstance(value, int | float)
    }
