"""A table as data: one YAML file with the systems (rows), what they share, what is shown of them and what is claimed.

The budget is said once, and so is the warm start: no row can change what makes rows comparable.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from toolkit.errors import ConfigError, DataError, check_names
from toolkit.scoring.figures import Figure
from toolkit.sweep.plan import NAME, key_of
from toolkit.tables.claims import AtLeast, Chain

FILE = "table.yaml"
COLUMNS = (
    "wer.seen_wording", "wer.held_out_wording",
    "agreement.seen_wording", "agreement.held_out_wording", "agreement.held_out_task",
    "accuracy.seen_wording", "accuracy.held_out_wording",
    "deaf.agreement.held_out_wording",
)  # fmt: skip
"""what a table shows if it does not say"""
WARM = "warm_start"
_KEYS = {"about", "shared", "steps", "minutes", "warm_start", "columns", "plots", "rows", "claims"}
_WARM_KEYS = {"recipe", "overrides", "steps", "minutes", "row"}
_ROW_KEYS = {"name", "about", "recipe", "overrides", "seeds", "warm", "plot", "published"}
_PUBLISHED_KEYS = {"figure", "value", "source", "note"}
OURS = {
    "exp_dir": "--exp",
    "seed": "`seeds` of the rows",
    "train.init_from": "`warm_start`, and `warm: false` for a row without",
}
"""what the table sets -> how it is said"""
_SAME = (
    "train.steps", "train.max_minutes", "train.batch_size", "data_dir", "imitate.tasks", "imitate.test_utterances",
    "imitate.max_new_tokens", "decode.split",
)  # fmt: skip
"""what no row may have to itself, for then it would not compare"""


@dataclass(frozen=True)
class Published:
    """A figure that others have printed, or why there is none."""

    value: str
    """as printed; or `not public`, `not comparable`"""
    figure: str = ""
    source: str = ""
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One system."""

    name: str
    recipe: str
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()
    """what makes it different, as on the command line"""
    about: str = ""
    warm: bool = True
    """begins from the warm start of its seed, if the table has one"""
    plot: dict[str, float] = field(default_factory=dict)
    """curve -> where on it the row stands"""
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Warm:
    """What all systems of a seed begin from, trained once."""

    recipe: str
    overrides: tuple[str, ...]
    steps: int
    minutes: float
    row: bool
    """stands in the table as well: decoded as it is, so that the rows show what they add to it"""


@dataclass(frozen=True)
class Spec:
    """All that a table is made of."""

    about: str
    shared: tuple[str, ...]
    steps: int
    """optimiser steps of every row that is trained"""
    minutes: float
    """of its training at most; 0 is no limit"""
    warm: Warm | None
    columns: tuple[str, ...]
    plots: dict[str, str]
    """curve -> what its axis is"""
    rows: tuple[Row, ...]
    claims: tuple[Chain | AtLeast, ...]


def find_spec(place: Path) -> Path | None:
    """Return the YAML file of a table: `place` itself, or table.yaml in it; None where there is none."""
    path = place if place.suffix in (".yaml", ".yml") else place / FILE
    return path if path.is_file() else None


def read_spec(path: Path) -> Spec:
    """Read a table's YAML file.

    Raises:
        DataError: it is not a table; the message says where.
    """
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {error}") from error
    _keys(path, "a table", data, _KEYS, ("rows", "steps"))
    warm = _warm(path, data["warm_start"]) if data.get("warm_start") else None
    rows = tuple(_row(path, item) for item in data["rows"])
    if warm is not None and warm.row:
        seeds = sorted({seed for row in rows for seed in row.seeds if row.warm})
        rows = (*rows, Row(WARM, warm.recipe, tuple(seeds), about="no imitation", warm=False))
    names = [row.name for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: two rows are called '{twice[0]}'")
    if warm is not None and not warm.row and WARM in names:
        raise DataError(f"{path}: '{WARM}' is what the rows begin from; `warm_start: {{row: true}}` shows it")
    spec = Spec(
        _line(data.get("about")), _overrides(path, "shared", data.get("shared"), OURS), int(data["steps"]),
        float(data.get("minutes", 0)), warm, tuple(data.get("columns") or COLUMNS), dict(data.get("plots") or {}),
        rows, tuple(_claim(path, item) for item in data.get("claims") or ()),
    )  # fmt: skip
    _check(path, spec)
    return spec


def _check(path: Path, spec: Spec) -> None:
    if spec.steps < 1 or spec.minutes < 0:
        raise DataError(f"{path}: a budget is at least 1 step and no negative time")
    try:
        for name in (*spec.columns, *(name for claim in spec.claims for name in claim.figures)):
            Figure.named(name)
        check_names("row", (name for claim in spec.claims for name in claim.rows), [row.name for row in spec.rows])
        check_names("plot", (curve for row in spec.rows for curve in row.plot), spec.plots)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error


def _warm(path: Path, item: Any) -> Warm:
    _keys(path, WARM, item, _WARM_KEYS, ("steps",))
    return Warm(
        str(item.get("recipe", WARM)), _overrides(path, WARM, item.get("overrides"), [*OURS, *_SAME]),
        int(item["steps"]), float(item.get("minutes", 0)), bool(item.get("row", False)),
    )  # fmt: skip


def _row(path: Path, item: Any) -> Row:
    _keys(path, "a row", item, _ROW_KEYS, ("name", "recipe"))
    name = str(item["name"])
    if not NAME.fullmatch(name):
        raise DataError(f"{path}: '{name}' names a folder, so it has letters, digits and _ . + - only")
    seeds = item.get("seeds", [1])
    if not isinstance(seeds, list) or not seeds or not all(isinstance(seed, int) for seed in seeds):
        raise DataError(f"{path}: row '{name}': seeds is a list of whole numbers, not {seeds!r}")
    plot = {str(curve): float(x) for curve, x in (item.get("plot") or {}).items()}
    return Row(
        name, str(item["recipe"]), tuple(seeds), _overrides(path, name, item.get("overrides"), [*OURS, *_SAME]),
        _line(item.get("about")), bool(item.get("warm", True)), plot,
        tuple(_published(path, name, each) for each in item.get("published") or ()),
    )  # fmt: skip


def _published(path: Path, row: str, item: Any) -> Published:
    _keys(path, f"published of '{row}'", item, _PUBLISHED_KEYS, ("value",))
    texts = {key: _line(value) for key, value in item.items()}
    if isinstance(item["value"], int | float) and not texts.get("source"):
        raise DataError(f"{path}: row '{row}': a published figure ({item['value']}) needs its source")
    return Published(**texts)


def _claim(path: Path, item: Any) -> Chain | AtLeast:
    if isinstance(item, dict) and "chain" in item:
        _keys(path, "a claim", item, {"chain", "figures"}, ("figures",))
        systems = tuple(name.strip() for name in str(item["chain"]).split(">"))
        if len(systems) < 2:
            raise DataError(f"{path}: a chain is of two systems or more, best first: `a > b`, not '{item['chain']}'")
        return Chain(systems, tuple(item["figures"]))
    _keys(path, "a claim", item, {"row", "figure", "at_least", "of"}, ("row", "figure", "at_least", "of"))
    _keys(path, "`of` of a claim", item["of"], {"row", "figure"}, ("row", "figure"))
    of = item["of"]
    return AtLeast(item["row"], item["figure"], float(item["at_least"]), of["row"], of["figure"])


def _overrides(path: Path, who: str, text: Any, forbidden: Iterable[str]) -> tuple[str, ...]:
    overrides = tuple(shlex.split(text or ""))
    for key in (key_of(override) for override in overrides):
        if key in OURS:
            raise DataError(f"{path}: {who} sets {key}, which is the table's own: say it by {OURS[key]}")
        if key in forbidden:
            raise DataError(f"{path}: {who} sets {key}, which is the same for all rows of a table")
    return overrides


def _keys(path: Path, what: str, item: Any, known: set[str], needed: Iterable[str]) -> None:
    if not isinstance(item, Mapping) or set(item) - known or not set(needed) <= set(item):
        raise DataError(f"{path}: {what} has the keys {sorted(known)}, {' and '.join(needed)} always; not {item!r}")


def _line(text: Any) -> str:
    return " ".join(str("" if text is None else text).split())
