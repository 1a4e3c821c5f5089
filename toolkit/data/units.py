"""The file of discrete units: their centroids, and the mark of the encoder whose frames they were found in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from toolkit.data.fingerprint import deciding, fingerprint
from toolkit.errors import ConfigError, DataError

_ENCODER = "encoder"


def encoder_mark(options: Mapping[str, Any], encoder: nn.Module) -> str:
    """Return the fingerprint of an encoder: what it is set to, and its weights."""
    return fingerprint({"encoder": deciding(options)}, encoder)


def write_units(path: Path, centroids: Tensor, encoder: str, about: Mapping[str, str]) -> None:
    """Write centroids (K, D) by a temporary name.

    Args:
        path: of the file.
        centroids: (K, D).
        encoder: the `encoder_mark` of what gave the frames.
        about: what else is to be known, such as how they were fitted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        save_file({"centroids": centroids.float().contiguous()}, temporary, {**about, _ENCODER: encoder})
        os.replace(temporary, path)
    except SafetensorError as error:  # such as a full disk
        raise DataError(f"cannot write {temporary}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_units(path: Path) -> tuple[Tensor, dict[str, str]]:
    """Return the centroids (K, D) of a file, and what it says about them.

    Raises:
        ConfigError: there is no such file.
        DataError: it is damaged, or no file of units.
    """
    if not path.is_file():
        raise ConfigError(f"encoder.centroids: there is no {path}; `toolkit units` with this configuration makes it")
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("centroids"), dict(file.metadata() or {})
    except SafetensorError as error:
        raise DataError(f"{path} is damaged or no file of units: {error}") from error


def check_units(path: Path, about: Mapping[str, str], encoder: str) -> None:
    """Refuse units that were found in other frames than they are to be looked for in.

    Raises:
        ConfigError: the mark in the file is not that of the encoder.
    """
    if (theirs := about.get(_ENCODER)) != encoder:
        raise ConfigError(
            f"{path} holds units of another encoder, or of other taps or options of it ({theirs}), than encoder.of "
            f"says ({encoder}): run `toolkit units` with this configuration and another encoder.centroids"
        )
