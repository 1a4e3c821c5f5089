"""What of a model is trained and what is frozen, counted on the meta device: the very parts, without their weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn

from toolkit.assets.pretrained import without_weights
from toolkit.config import Config
from toolkit.models.build import build_model
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages.encode import encoder_training
from toolkit.stages.machine import AUTO
from toolkit.stages.preflight import check_training

QUANTISED = {"nf4": 0.52, "int8": 1.0}
"""bytes of a frozen weight under `decoder.quantise`, with the scales of its block"""


@dataclass(frozen=True)
class PartSize:
    """One part of a model, in numbers."""

    part: str
    """encoder, adapter or decoder"""
    name: str
    model: str
    """whose weights it has; empty if none"""
    trained: int
    """parameters"""
    frozen: int
    """parameters"""
    weights: int
    """bytes in training"""
    trained_weights: int
    """bytes of those that are trained"""


def model_without_weights(config: Config) -> SpeechLLM:
    """Build the model of a training on the meta device, with all that is trained of it.

    Raises:
        ToolkitError: it could not be trained, or nobody knows the sizes of a model.
    """
    check_training(config)
    precision = {"dtype": planned_dtype(config)} if config.train.decoder_dtype else {}
    unquantised = {"quantise": ""} if config.decoder.get("quantise") else {}  # it wants a GPU, and its sizes are known
    decoder = {**config.decoder, **precision, **unquantised}
    with without_weights():
        return build_model(config.encoder, config.adapter, decoder, config.cut, config.seed, encoder_training(config))


def planned_dtype(config: Config) -> str:
    """Return `train.decoder_dtype`; for `auto`, which another machine may decide, the one that takes more memory."""
    return "fp32" if config.train.decoder_dtype == AUTO else config.train.decoder_dtype


def sizes_of(model: SpeechLLM, config: Config) -> tuple[PartSize, ...]:
    """Count the parts of a model."""
    parts: dict[str, tuple[nn.Module, dict[str, object]]] = {
        "encoder": (model.encoder, config.encoder),
        "adapter": (model.adapter, config.adapter),
        "decoder": (model.decoder, config.decoder),
    }
    counted = [_size(kind, module, options) for kind, (module, options) in parts.items()]
    if how := config.decoder.get("quantise"):
        held = sum(int(p.numel() * (p.element_size() - QUANTISED[how])) for p in path(model.decoder, trained=False))
        counted[-1] = replace(counted[-1], weights=counted[-1].weights - held)
    return tuple(counted)


def _size(kind: str, module: nn.Module, options: dict[str, object]) -> PartSize:
    trained = [p for p in module.parameters() if p.requires_grad]
    frozen = [p for p in module.parameters() if not p.requires_grad]
    return PartSize(
        kind, str(options["name"]), str(options.get("model", "")),
        count(trained), count(frozen), in_bytes([*trained, *frozen]), in_bytes(trained),
    )  # fmt: skip


def count(parameters: list[nn.Parameter]) -> int:
    """Count numbers."""
    return sum(p.numel() for p in parameters)


def in_bytes(parameters: list[nn.Parameter]) -> int:
    """Count bytes."""
    return sum(p.numel() * p.element_size() for p in parameters)


def path(module: nn.Module, *, trained: bool | None = None) -> Iterator[Tensor]:
    """Yield the matrices that what flows through a part is multiplied by; tables that are looked up are none.

    Args:
        module: encoder, adapter or decoder.
        trained: only those that are trained, or only those that are not; None is all.
    """
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    for parameter in module.parameters():
        if parameter.dim() > 1 and id(parameter) not in tables and trained in (None, parameter.requires_grad):
            yield parameter
