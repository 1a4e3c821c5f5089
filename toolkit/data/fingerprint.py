"""What made a thing, in twelve letters: caches are kept under it, so a stale one is never found by mistake."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

PLACES = ("model", "centroids")
"""options of an encoder that say where its weights lie, which are known by what they are"""
_SAMPLES = 64
"""values looked at in each tensor: two different models differ in some of them"""


def deciding(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides an encoder's frames beside the weights: all that is set but where those lie."""
    return {
        key: deciding(value) if isinstance(value, dict) else value
        for key, value in options.items()
        if key not in PLACES and value not in ([], {}, None)
    }


def fingerprint(options: Mapping[str, Any], *modules: nn.Module | Mapping[str, Tensor]) -> str:
    """Digest plain options and the weights of modules, wherever they were loaded from.

    Args:
        options: what else the result depends on; JSON values.
        modules: modules or states of such; their tensors' names, shapes and 64 evenly spaced values each are digested.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for module in modules:
        state = module.state_dict() if isinstance(module, nn.Module) else module
        for name, tensor in sorted(state.items()):
            flat = tensor.detach().flatten()
            index = torch.linspace(0, len(flat) - 1, min(_SAMPLES, len(flat)), dtype=torch.float64).long()
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            # Rounded to bf16, so that one model loaded in two precisions stays one model.
            sample = flat[index.to(flat.device)].to(torch.bfloat16).float()
            digest.update(sample.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
