"""The file `asset.json` in a fetched folder: what it was made from, by what, and what came out.

It is written last, just before the folder gets its final name, so a folder that has one is whole.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from toolkit.assets.catalog import Asset

RECORD = "asset.json"
WEIGHTS = "model.safetensors"


def write_record(folder: Path, asset: Asset) -> None:
    """Write `asset.json` into a folder that is otherwise finished.

    Args:
        folder: holds `model.safetensors`.
        asset: what the folder was made from.
    """
    weights = folder / WEIGHTS
    with weights.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    made = {WEIGHTS: {"size": weights.stat().st_size, "sha256": digest}}
    about = {"description": asset.description, "licence": asset.licence}
    text = json.dumps({**_origin(asset), **about, "made": made}, indent=2)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def has_record(folder: Path) -> bool:
    """Tell whether `toolkit assets fetch` made this folder, be it for an older catalogue."""
    return (folder / RECORD).is_file()


def is_current(folder: Path, asset: Asset) -> bool:
    """Tell whether a folder is whole and made from exactly what the catalogue asks for.

    Weights are compared by size only: hashing half a gigabyte at each look would be felt.

    Args:
        folder: where the asset would be.
        asset: what it should be.

    Returns:
        True if nothing has to be done.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        size = record["made"][WEIGHTS]["size"]
        same_origin = all(record[key] == value for key, value in _origin(asset).items())
        return same_origin and bool((folder / WEIGHTS).stat().st_size == size)
    except (OSError, ValueError, KeyError, TypeError):  # none, or not one of ours: then it is not current
        return False


def _origin(asset: Asset) -> dict[str, Any]:
    """Return what decides a folder's contents."""
    return {
        "asset": asset.name,
        "requirements": [wheel.requirement for wheel in asset.wheels],
        "files": {file.name: {"size": file.size, "sha256": file.sha256} for file in asset.files},
        "converter": asset.converter,
        "converter_version": asset.converter_version,
    }
