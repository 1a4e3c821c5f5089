"""Turns what a user calls a model (asset, folder, hub id) into what a loader takes; imports nothing heavy."""

import os
import re
from pathlib import Path

from toolkit.assets.catalog import ASSETS, SETS, set_of
from toolkit.assets.record import has_record, is_current
from toolkit.errors import AssetError, unknown_name

PREFIX = "asset:"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def assets_root() -> Path:
    """Return the folder of fetched assets: `$TOOLKIT_ASSETS`, or `~/.cache/mtbi-toolkit/assets`."""
    chosen = os.environ.get("TOOLKIT_ASSETS")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "mtbi-toolkit" / "assets"


def locate(model: str) -> str:
    """Find a model by any of its three kinds of name.

    Args:
        model: `asset:NAME`, a local folder, or the id of a model on the hub.

    Returns:
        The folder of the asset; the local folder (`~` expanded); or the hub id, unchanged and unverified.

    Raises:
        UnknownNameError: no asset of that name; the message gives the nearest and all names.
        AssetError: the asset is not fetched, the path does not exist, or it is no name at all.
    """
    if model.startswith(PREFIX):
        return str(_asset_folder(model.removeprefix(PREFIX)))
    path = Path(model).expanduser()
    if model and path.is_dir():
        return os.path.expanduser(model)  # no loader does, and Path would drop the "./" that says folder
    if model and path.exists():
        raise AssetError(f"model '{model}' is a file; give the folder that holds its config.json")
    if model in ASSETS or model in SETS:  # no hub model is called so: the prefix was forgotten
        raise AssetError(f"model '{model}': assets are written '{PREFIX}NAME'. There are: {_all_assets()}.")
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise AssetError(f"model '{model}': there is no such folder ({path.absolute()})")
    if not _HUB_ID.fullmatch(model):
        raise AssetError(f"model '{model}' is neither '{PREFIX}NAME' nor a folder nor a hub id ('org/name')")
    return model


def _asset_folder(name: str) -> Path:
    if name in SETS:
        raise AssetError(f"'{PREFIX}{name}' is a set of assets; choose one: {', '.join(SETS[name])}")
    if name not in ASSETS:
        raise unknown_name("asset", name, list(ASSETS))
    folder = assets_root() / name
    if is_current(folder, ASSETS[name]):
        return folder
    trouble = "is outdated or damaged" if has_record(folder) else "is not there yet"
    raise AssetError(f"{name} {trouble} ({folder}). Run:  toolkit assets fetch {set_of(name)}")


def _all_assets() -> str:
    return ", ".join(f"{PREFIX}{name}" for name in ASSETS)
