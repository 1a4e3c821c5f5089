"""Whether a training that is there already is the one that is asked for: what decides it is compared, key by key."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.config import KINDS, Config, load_config
from toolkit.errors import ConfigError
from toolkit.interfaces import REGISTRIES
from toolkit.stages.paths import CONFIG
from toolkit.stages.ranks import TOGETHER

_DECIDES = (*KINDS, "cut", "system", "speech_marker", "text_marker", "seed", "imitate", "train", "encode.copies")
"""sections and keys of the configuration that decide what a training is"""
_BUT = ("imitate.jobs", "imitate.shard", *TOGETHER)  # who made the answers, or trains, is all the same


def check_same(config: Config, out: Path) -> None:
    """Refuse to call a training done, or to go on with it, under other settings than it was begun with."""
    if not (out / CONFIG).exists() or not ((out / "done").exists() or (out / "last.ckpt").exists()):
        return
    before, now = (_flat(_with_defaults(asdict(c))) for c in (load_config(out / CONFIG), config))
    different = [
        f"{key} (was {before.get(key)}, now {now.get(key)})"
        for key in sorted(before.keys() | now.keys())
        if (key in _DECIDES or key.split(".")[0] in _DECIDES) and key not in _BUT and before.get(key) != now.get(key)
    ]
    if different:
        raise ConfigError(
            f"{out} holds a training with other settings: {'; '.join(different)}. "
            f"Choose another exp_dir, or remove {out} to train again."
        )


def _with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Complete the options of the parts: a part may have gained some since a configuration was saved."""
    parts = {kind: {**REGISTRIES[kind].defaults(values[kind]["name"]), **values[kind]} for kind in KINDS}
    return {**values, **parts}


def _flat(values: dict[str, Any], head: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        plain = list(value) if isinstance(value, tuple) else value  # as a saved configuration has it
        flat |= _flat(value, f"{head}{key}.") if isinstance(value, dict) else {f"{head}{key}": plain}
    return flat
