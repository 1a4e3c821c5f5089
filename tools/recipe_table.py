#!/usr/bin/env python3
"""The table of recipes/README.md, made from the recipes themselves.

`python tools/recipe_table.py` writes it, `--check` fails if it is stale. Models are built without weights, as
`toolkit plan` builds them.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from toolkit.config import KINDS, compose_config  # noqa: E402
from toolkit.plan.sizes import model_without_weights, sizes_of  # noqa: E402
from tools import made_table  # noqa: E402

README = ROOT / "recipes/README.md"
TOOL = "tools/recipe_table.py"
PACKAGED = "# Packaged models: "
"""opens the line of a recipe's header that says what to add for Whisper tiny.en and SmolLM2-135M"""


@dataclass(frozen=True)
class Recipe:
    """What a recipe says, joined with what the primary configuration says of what it leaves open."""

    name: str
    paper: str
    parts: dict[str, str]
    """kind -> name"""
    options: dict[str, dict[str, Any]]
    """kind -> options that the recipe sets"""
    tasks: list[str]
    lora: bool
    """whether what it trains of the encoder is LoRA"""
    packaged: str
    """overrides for the packaged models, from the header"""
    untrained: bool
    """whether nothing is trained: a recogniser hears, and most parts have nothing to do"""

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read an overlay and its header."""
        text = path.read_text()
        own, body = overlay(text)
        primary, _ = overlay((ROOT / "toolkit/conf/toolkit.yaml").read_text())
        parts = {kind: own.get(kind) or primary[kind] for kind in KINDS}
        packaged = "".join(line.removeprefix(PACKAGED) for line in text.splitlines() if line.startswith(PACKAGED))
        paper = re.search(r"arXiv (\d{4}\.\d{5})", text)
        source = re.search(r"github ([\w-]+/[\w-]+)", text)
        return cls(
            path.stem,
            f"arXiv {paper[1]}" if paper else f"github {source[1]}" if source else "ours",
            parts,
            {kind: body.get(kind, {}) for kind in KINDS},
            body.get("imitate", {}).get("use", ["none: transcripts"]),
            body.get("train", {}).get("encoder") == "lora",
            " ".join(packaged.split()),
            body.get("train", {}).get("steps") == 0,
        )

    def parameters(self) -> dict[str, int]:
        """Count what is trained with the packaged models, by what it is."""
        said = [f"recipes={self.name}", "egs=mini/conf/mini", *self.packaged.split()]
        config = compose_config(said)
        encoder, adapter, decoder = sizes_of(model_without_weights(config), config)
        counts = {
            "adapter": adapter.trained,
            "LoRA": decoder.trained,
            "LoRA of the encoder" if self.lora else "encoder": encoder.trained,
        }
        return {what: count for what, count in counts.items() if count}

    def cells(self) -> list[str]:
        """Return the row of the first table."""
        if self.untrained:
            kinds = (f"`{self.parts[kind]}`" if kind in ("encoder", "decoder") else "none" for kind in KINDS)
            return [f"`{self.name}`", self.paper, *kinds, "all", "nothing", "0"]
        trained = self.parameters()
        return [
            f"`{self.name}`",
            self.paper,
            *(part(self.parts[kind], self.options[kind]) for kind in KINDS),
            ", ".join(self.tasks) or "all",
            ", ".join(trained),
            " + ".join(map(millions, trained.values())),
        ]


def overlay(text: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the parts that a configuration chooses, by kind, and its body."""
    body = yaml.safe_load(text)
    chosen = [entry for entry in body.pop("defaults", []) if isinstance(entry, dict)]
    names = {str(key).removeprefix("override").strip(" /"): value for entry in chosen for key, value in entry.items()}
    return {kind: names[kind] for kind in KINDS if kind in names}, body


def part(name: str, options: dict[str, Any]) -> str:
    """Say a part with the options that are set."""
    inside = ", ".join(f"{key} {said(value)}" for key, value in options.items())
    return f"`{name}` ({inside})" if inside else f"`{name}`"


def said(value: Any) -> str:
    """Say the value of an option in a few words."""
    match value:
        case dict():
            return " + ".join(
                f"{v:g} {k}" if isinstance(v, int | float) else f"{k} {said(v)}" for k, v in value.items()
            )
        case list() if len(value) > 6:
            return f"{value[0]} to {value[-1]}"
        case list():
            return " ".join(map(str, value))
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case _:
            return str(value)


def millions(count: int) -> str:
    """Say a number of parameters."""
    return f"{count / 1e6:.2f} M"


def made() -> str:
    """Make both tables."""
    recipes = [Recipe.read(path) for path in sorted((ROOT / "recipes").glob("*.yaml"))]
    head = ["recipe", "after", *KINDS, "tasks", "trained", "parameters"]
    text = made_table.table(head, [recipe.cells() for recipe in recipes])
    additions = [[f"`{recipe.name}`", f"`{recipe.packaged}`"] for recipe in recipes if recipe.packaged]
    if not additions:
        return text
    return text + "\n" + made_table.table(["recipe", "to add with `egs=mini/conf/mini`"], additions)


def renewed(page: str) -> str:
    """Return the page with its table made anew."""
    return made_table.renewed(page, TOOL, made())


if __name__ == "__main__":
    sys.exit(made_table.main(README, TOOL, __doc__ or "", renewed))
