"""Adopt: an adapter made of layers that another model has trained begins its training with that model's weights.

Once, before the first step; a checkpoint holds all of the adapter, so whoever loads one needs the other model no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from toolkit.assets.locate import locate
from toolkit.errors import CheckpointError
from toolkit.interfaces import Adapter, AdoptingAdapter
from toolkit.stages.progress import say

OWN = "encoder"
"""says of `adapter.weights`: those of the model that the encoder is of"""


def adopt_weights(adapter: Adapter, encoder: Mapping[str, Any]) -> None:
    """Give `adapter` the weights that its option `weights` names, if it has one; safetensors alone are read.

    Args:
        adapter: any; those that adopt nothing stay as they are.
        encoder: the encoder's options; the preflight has seen that it has a model of its own if that is asked for.

    Raises:
        CheckpointError: the model cannot be read, or has other sizes than the adapter.
    """
    if not isinstance(adapter, AdoptingAdapter) or not adapter.weights:
        return
    model = encoder["model"] if adapter.weights == OWN else adapter.weights
    place = locate(model)
    from transformers import AutoModel

    try:
        donor = AutoModel.from_pretrained(place, dtype=torch.float32, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"adapter.weights: {model} cannot be read as safetensors: {error}") from error
    try:
        adapter.adopt(donor.state_dict())
    except CheckpointError as error:
        raise CheckpointError(f"adapter.weights: {model} does not fit: {error}") from error
    say(f"train: the adapter begins with the weights of {model}")
