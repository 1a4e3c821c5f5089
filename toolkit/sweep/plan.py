"""A sweep as data: one YAML file with the cells, what they share and the budget that is the same for all."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException

from toolkit.config import Config, compose_config
from toolkit.errors import ConfigError, DataError, check_names
from toolkit.stages.preflight import check_training

_KEYS = {"about", "shared", "steps", "minutes", "cells"}
_CELL_KEYS = {"name", "overrides", "warm"}
NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
_SAME = ("train.steps", "train.max_minutes", "train.batch_size", "data_dir")
"""what no cell may have to itself, for then a table would not compare"""
_OURS = {
    "exp_dir": "--exp",
    "train.init_from": "--warm",
    "train.steps": "--steps",
    "train.max_minutes": "--minutes",
}
"""what the sweep sets -> the option that says how"""


@dataclass(frozen=True)
class Cell:
    """One row of the table to come."""

    name: str
    overrides: tuple[str, ...]
    """what makes it different, as on the command line"""
    warm: bool = False
    """begins from the warm start: a reference among cells that begin from nothing"""


@dataclass(frozen=True)
class Sweep:
    """Cells, what they share, and their budget."""

    name: str
    about: str
    shared: tuple[str, ...]
    cells: tuple[Cell, ...]
    steps: int
    """optimiser steps of every cell"""
    minutes: float = 0.0
    """of training at most; 0 is no limit"""


def read_sweep(path: Path) -> Sweep:
    """Read a sweep's YAML file.

    Raises:
        DataError: it is not there, or not a sweep.
    """
    if not path.is_file():
        raise DataError(f"there is no sweep at {path}: name a YAML file, such as egs/mini/sweeps/adapters.yaml")
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict) or set(data) - _KEYS or not {"cells", "steps"} <= set(data):
        raise DataError(f"{path}: a sweep has the keys {sorted(_KEYS)}; cells and steps are needed")
    cells = tuple(_cell(path, item) for item in data["cells"])
    names = [cell.name for cell in cells]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: two cells are called '{twice[0]}'")
    about = " ".join(str(data.get("about", "")).split())
    shared = tuple(shlex.split(data.get("shared", "")))
    return Sweep(path.stem, about, shared, cells, int(data["steps"]), float(data.get("minutes", 0)))


def choose_cells(sweep: Sweep, names: Seq[str], *, warm: bool) -> list[Cell]:
    """Return the cells that are called so (all if none is named), without the warm ones where there is no warm start.

    Raises:
        UnknownNameError: no cell has the name.
        ConfigError: nothing is left.
    """
    check_names("cell", names, [cell.name for cell in sweep.cells])
    chosen = [cell for cell in sweep.cells if (not names or cell.name in names) and (warm or not cell.warm)]
    if not chosen:
        raise ConfigError(f"no cell of '{sweep.name}' is left to run: those named begin from a warm start; give --warm")
    return chosen


def plan(
    sweep: Sweep, cells: Seq[Cell], exp: Path, *, steps: int, minutes: float, warm: Path | None, more: Seq[str]
) -> dict[Path, list[str]]:
    """Return every cell's folder and the overrides that it is composed of; all of them can be trained.

    Args:
        sweep: what the cells share.
        cells: of it.
        exp: folder of the sweep.
        steps: optimiser steps of each cell.
        minutes: of training at most; 0 is no limit.
        warm: checkpoint of the warm cells.
        more: overrides of the command line, for all cells; they have the last word.

    Raises:
        ConfigError: an override that is none, or that is the sweep's own; parts that contradict each other.
    """
    if steps < 1 or minutes < 0:
        raise ConfigError(f"a budget is at least 1 step and no negative time, not {steps} steps, {minutes:g} minutes")
    for key in (key_of(override) for override in (*sweep.shared, *more)):
        if key in _OURS:
            raise ConfigError(f"{key} is set by the sweep: say {_OURS[key]}")
    budget = [f"train.steps={steps}", f"train.max_minutes={minutes:g}"]
    planned = {}
    for cell in cells:
        init = warm if cell.warm else ""
        own = [f"train.init_from={init}", f"exp_dir={exp / cell.name}"]
        planned[exp / cell.name] = overrides = [*sweep.shared, *cell.overrides, *budget, *more, *own]
        composed(cell.name, overrides)
    return planned


def composed(name: str, overrides: Seq[str]) -> Config:
    """Compose the configuration of a cell, and look whether it can be trained.

    Raises:
        ConfigError: an override that is none, or parts that contradict each other.
    """
    try:
        config = compose_config(overrides)
        check_training(config)
    except (HydraException, ConfigError) as error:
        raise ConfigError(f"cell '{name}' cannot be trained: {error}") from error
    return config


def _cell(path: Path, item: Any) -> Cell:
    if not isinstance(item, dict) or set(item) - _CELL_KEYS or "name" not in item:
        raise DataError(f"{path}: a cell has the keys name, overrides and warm, not {item!r}")
    name = str(item["name"])
    if not NAME.fullmatch(name):
        raise DataError(f"{path}: '{name}' names a folder, so it has letters, digits and _ . + - only")
    overrides = tuple(shlex.split(item.get("overrides", "")))
    for override in overrides:
        if key_of(override) in (*_SAME, *_OURS):
            raise DataError(
                f"{path}: cell '{name}' sets {key_of(override)}, which is the same for all cells of a sweep"
            )
    return Cell(name, overrides, bool(item.get("warm", False)))


def key_of(override: str) -> str:
    """Return what an override is of."""
    return override.split("=")[0].lstrip("+~")
