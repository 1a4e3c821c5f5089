"""The one configuration tree of all stages: how it is composed, checked and saved.

Its schema is in `toolkit.schema`; a recipe or a corpus is a YAML overlay (`recipes=mtbi egs=mini/conf/mini`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence as Seq
from dataclasses import asdict, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import MISSING, DictConfig, OmegaConf

from toolkit.errors import ConfigError
from toolkit.limits import check_limits
from toolkit.registry import load_plugins
from toolkit.schema import Config

PRIMARY = "toolkit"
KINDS = ("encoder", "adapter", "decoder", "interleaver", "loss")


__all__ = [
    "KINDS",
    "PRIMARY",
    "Config",
    "compose_config",
    "from_plain",
    "is_given",
    "load_config",
    "load_parts",
    "require",
    "root",
    "save_config",
    "typed",
]

ConfigStore.instance().store(name="schema", node=Config, provider="toolkit.schema")


def root() -> Path:
    """Return the folder that holds `recipes/` and `egs/`: $TOOLKIT_ROOT, or the checkout itself."""
    return Path(os.environ.setdefault("TOOLKIT_ROOT", str(Path(__file__).resolve().parents[1])))


def load_parts() -> dict[str, str]:
    """Import the built-in parts and all plugins, so that they register; return the plugins' origins."""
    root()
    for kind in KINDS:
        import_module(f"toolkit.{kind}s" if kind != "loss" else "toolkit.losses")
    return load_plugins()


def compose_config(overrides: Seq[str]) -> Config:
    """Compose the tree from overrides, as the command line does; used by tests and notebooks."""
    load_parts()
    GlobalHydra.instance().clear()
    with initialize_config_module("toolkit.conf", version_base="1.3"):
        return typed(compose(PRIMARY, overrides=list(overrides)))


def typed(config: DictConfig) -> Config:
    """Resolve a composed tree into plain values: dataclasses for sections, dicts for parts.

    Raises:
        ConfigError: a value that must be given is missing, or a number is one that no stage can run with.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    if not isinstance(plain, dict):
        raise ConfigError("the configuration is not a mapping")
    values = {str(key): value for key, value in plain.items()}
    check_limits(values)
    return from_plain(values)


def from_plain(plain: dict[str, Any]) -> Config:
    """Rebuild the tree from plain values, such as those saved beside a checkpoint."""
    sections: dict[str, Any] = {f.name: f.default_factory for f in fields(Config) if is_dataclass(f.default_factory)}
    values = {key: sections[key](**value) if key in sections else value for key, value in plain.items()}
    return Config(**values)


def is_given(value: object) -> bool:
    """Tell whether anybody has said a value that has no default."""
    return value not in (None, "", MISSING)


def require(value: str, key: str) -> str:
    """Return a value that the stage cannot do without.

    Raises:
        ConfigError: it was not given.
    """
    if not is_given(value):
        raise ConfigError(f"{key} is not set: give it on the command line ({key}=...) or in the egs overlay")
    return value


def save_config(config: Config, path: Path) -> None:
    """Write the filled tree as YAML, by a temporary name."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True))
    temporary.replace(path)


def load_config(path: Path) -> Config:
    """Read a tree written by `save_config`."""
    return from_plain(yaml.safe_load(path.read_text()))
