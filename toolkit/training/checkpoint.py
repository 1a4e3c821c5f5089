"""Checkpoints hold what was trained and nothing else: `trainable.safetensors`, with `config.yaml` beside it.

What a checkpoint was trained against (the decoder's and the encoder's fingerprints before training) is kept in the
file's own metadata, and loading it into another model is refused.
"""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from toolkit.data.fingerprint import fingerprint
from toolkit.errors import CheckpointError
from toolkit.models.build import attach_tokens
from toolkit.models.encoder_training import mode_of, own_state
from toolkit.models.speech_llm import SpeechLLM

WEIGHTS = "trainable.safetensors"


def trainable_state(model: SpeechLLM) -> dict[str, Tensor]:
    """Return the tensors that training changes, and the adapter's persistent buffers.

    What else a decoder holds, such as tied heads and the scales of quantised weights, is the frozen LLM's; what else
    an encoder holds stays as it was, since it is never in training mode.
    """
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    trained = tuple({name.split(".")[0] + "." for name in names} - {"decoder.", "encoder."})
    state = model.state_dict()
    return {k: v for k, v in state.items() if k in names or (k not in frozen and k.startswith(trained))}


def save_checkpoint(model: SpeechLLM, folder: Path, about: dict[str, str] | None = None) -> None:
    """Write `trainable.safetensors` through a temporary name.

    An encoder that is trained whole is no longer what it began as: `about` must then hold the `identity` before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in trainable_state(model).items()}
    temporary = folder / (WEIGHTS + ".tmp")
    about = about or {}
    metadata = about if about.keys() >= {"decoder", "encoder"} else {**identity(model), **about}
    try:
        save_file(state, temporary, metadata)
        os.replace(temporary, folder / WEIGHTS)
    except SafetensorError as error:  # such as a full disk
        raise CheckpointError(f"cannot write {temporary}: {error}; an earlier checkpoint is intact") from error
    finally:
        temporary.unlink(missing_ok=True)


def weights_path(folder: Path) -> Path:
    """Return the file of a checkpoint's weights.

    Raises:
        CheckpointError: there is none.
    """
    path = folder / WEIGHTS
    if not path.exists():
        raise CheckpointError(f"no checkpoint in {folder}: {WEIGHTS} is missing. Train first, or mend the path.")
    return path


def load_checkpoint(model: SpeechLLM, folder: Path) -> None:
    """Load what was trained into `model`, as it was built.

    LoRA that is new in this model stays as it was drawn, which changes no output: so a training may add it, and what
    the adapter calls `neutral`. Likewise it may train an encoder that was frozen.

    Raises:
        CheckpointError: there is none, it is damaged, it was trained for another decoder or encoder, its encoder was
            trained in another way, or its tensors do not fit.
    """
    path = weights_path(folder)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    for part, mark in identity(model).items():
        if metadata.get(part) != mark:
            raise CheckpointError(
                f"{path} was trained with another {part} ({metadata.get(part)}) than is configured now ({mark}): "
                f"name the {part} it was trained with, or train again"
            )
    before, now = mode_of(set(state)), mode_of(set(trainable_state(model)))
    if before not in ("frozen", now):
        raise CheckpointError(
            f"{path} holds an encoder trained with train.encoder={before}, and train.encoder={now} is configured: "
            f"say train.encoder={before}, or train again"
        )
    own = model.state_dict()
    for name, tensor in state.items():
        flexible = name in ("adapter.token_ids", "adapter.bias")
        if name not in own or (own[name].shape != tensor.shape and not flexible):
            here = tuple(own[name].shape) if name in own else "nothing of that name"
            raise CheckpointError(f"{path}: {name} has shape {tuple(tensor.shape)}, this model has {here}")
    missing = sorted(set(trainable_state(model)) - set(state))
    for part in ("decoder.", "encoder."):
        if not any(name.startswith(part) for name in state):
            missing = [name for name in missing if not name.startswith(part)]
    neutral = tuple(f"adapter.{beginning}" for beginning in model.adapter.neutral)
    if missing := [name for name in missing if not name.startswith(neutral)]:
        raise CheckpointError(
            f"{path} lacks {', '.join(missing[:3])}: it was trained with other options of the adapter, decoder or "
            "train.encoder"
        )
    model.load_state_dict(state, strict=False)
    if "adapter.token_ids" in state:
        attach_tokens(model, state["adapter.token_ids"].to(next(model.adapter.parameters()).device))


def identity(model: SpeechLLM) -> dict[str, str]:
    """Return the fingerprints of the text LLM and of the encoder without LoRA, which what is trained belongs to."""
    return {
        "decoder": fingerprint({}, model.decoder.frozen_state()),
        "encoder": fingerprint({}, own_state(model.encoder)),
    }
