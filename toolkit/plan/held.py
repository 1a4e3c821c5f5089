"""What autograd holds between a forward pass and its backward pass: counted, on any device, the meta device too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from toolkit.types import Padded


def held_for_backward(module: nn.Module, run: Callable[[], object]) -> int:
    """Return the bytes that `run` leaves with autograd; the weights of `module` are not counted."""
    own = {id(tensor.untyped_storage()) for tensor in (*module.parameters(), *module.buffers())}
    held: dict[int, torch.UntypedStorage] = {}  # kept, so that no other storage gets the id of one

    def hold(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[id(storage)] = storage
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        output = run()
    del output
    return sum(storage.nbytes() for number, storage in held.items() if number not in own)


def held_by_adapter(adapter: nn.Module, rows: int, frames: int, width: int) -> int | None:
    """Run an adapter that has no weights over frames that have no values: (rows, frames, width).

    Returns:
        bytes; None for an adapter whose steps depend on values, which cannot be run without them.
    """
    nothing = Padded(torch.empty(rows, frames, width, device="meta"), torch.full((rows,), frames))
    was = adapter.training
    try:
        return held_for_backward(adapter.train(), lambda: adapter(nothing))
    except RuntimeError:  # torch's, when a value is asked for that is not there
        return None
    finally:
        adapter.train(was)
