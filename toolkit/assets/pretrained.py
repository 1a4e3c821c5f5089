"""Other people's models: loaded with their weights or, inside `without_weights`, built from their shape alone.

A shape is a `config.json`: that of a local folder, of the hub's cache on this machine, or of `shapes/`, which holds the
sizes that well-known models were published with. For a shape nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch

from toolkit.assets.locate import PREFIX, locate
from toolkit.errors import AssetError

SHAPES = Path(__file__).with_name("shapes")
"""a folder for each hub id, with the sizes of its `config.json`"""
HUB_IDS = {
    "whisper-tiny.en": "openai/whisper-tiny.en",
    "whisper-base": "openai/whisper-base",
    "smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
}
"""packaged model -> the hub's name of it, whose shape it has"""

_shapes_only: ContextVar[bool] = ContextVar("shapes_only", default=False)


@contextmanager
def without_weights() -> Iterator[None]:
    """Build what is built inside on the meta device: all sizes, no weights, no downloads."""
    token = _shapes_only.set(True)
    try:
        with torch.device("meta"):
            yield
    finally:
        _shapes_only.reset(token)


def place_of(model: str) -> str:
    """Find what transformers reads a model from: as `locate` does or, without weights, where its config.json is.

    Raises:
        AssetError: as `locate`; or nobody knows its shape.
    """
    return _shape_of(model) if _shapes_only.get() else locate(model)


def pretrained(cls: Any, model: str, *, dtype: torch.dtype, **options: Any) -> tuple[Any, frozenset[str]]:
    """Load `model` as a class of transformers.

    Args:
        cls: a model class, or one of the `Auto` classes.
        model: a folder, a hub id or `asset:NAME`.
        dtype: of the weights.
        options: what else `from_pretrained` is told; no matter without weights.

    Returns:
        the model, and the names of the weights that were not there.
    """
    if not _shapes_only.get():
        loaded, report = cls.from_pretrained(locate(model), dtype=dtype, output_loading_info=True, **options)
        return loaded, frozenset(report["missing_keys"])
    from transformers import AutoConfig, PreTrainedModel

    config = AutoConfig.from_pretrained(_shape_of(model))
    built = cls(config) if issubclass(cls, PreTrainedModel) else cls.from_config(config)
    return built.to("meta", dtype), frozenset()  # some parameters know no default device


def _shape_of(model: str) -> str:
    """Return the folder that holds the config.json of a model."""
    model = HUB_IDS.get(model.removeprefix(PREFIX), model) if model.startswith(PREFIX) else model
    place = locate(model)
    if Path(place).is_dir():
        if not (Path(place) / "config.json").is_file():
            raise AssetError(f"{place} has no config.json, which says the sizes of a model")
        return place
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(place, "config.json")
    if isinstance(cached, str):
        return str(Path(cached).parent)
    if (SHAPES / place / "config.json").is_file():
        return str(SHAPES / place)
    known = sorted(str(path.parent.relative_to(SHAPES)) for path in SHAPES.glob("*/*/config.json"))
    raise AssetError(
        f"the sizes of '{model}' are not known here: give a folder that holds its config.json, which "
        f"`hf download {model} config.json --local-dir DIR` fetches. Known without it: {', '.join(known)}"
    )
