"""Losses over the vocabulary a few positions at a time: the same sums and gradients, and memory that does not grow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from toolkit.config import load_parts
from toolkit.decoders import causal_lm
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.interfaces import LOSSES
from toolkit.types import LossInputs, LossOutput, Outputs, TopK

load_parts()
WIDTH = 8
LOSS: dict[str, dict[str, Any]] = {
    "cross_entropy": {"name": "cross_entropy"},
    "distillation": {"name": "distillation", "temperature": 2.0, "end_weight": 1.0},
    "stored": {"name": "distillation", "scale_by_square": True, "end_weight": 0.5},
    "weighted": {"name": "weighted", "weights": {"distillation": 0.7, "hidden": 0.1, "cross_entropy": 0.2}},
}


def inputs(case: str, positions: int, vocabulary: int, together: int) -> LossInputs:
    """Make the same inputs, with scores that are there (`together` 0) or still to be made."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(WIDTH, vocabulary, generator=generator)
    student, teacher = torch.randn(2, positions, WIDTH, generator=generator)
    student.requires_grad_()

    def outputs(hidden: Tensor) -> Outputs:
        return Outputs(lambda h: h @ matrix, hidden, together) if together else Outputs(hidden @ matrix, hidden)

    targets = torch.arange(positions) % vocabulary
    given = LossInputs(targets, outputs(student), starts=targets % 3 == 0, end_of_turn=3)
    if case == "stored":
        return replace(given, stored_teacher=TopK.of(teacher @ matrix, 5))
    return replace(given, teacher=outputs(teacher))


def computed(case: str, together: int, positions: int = 23, vocabulary: int = 40) -> tuple[LossOutput, Tensor]:
    given = inputs(case, positions, vocabulary, together)
    output = LOSSES.build(LOSS[case])(given)
    (3 * output.total).backward()
    assert given.student is not None
    assert given.student.hidden.grad is not None
    return output, given.student.hidden.grad


@pytest.mark.parametrize("case", LOSS)
@pytest.mark.parametrize("together", [1, 7, 23, 100])
def test_in_chunks_a_loss_and_its_gradient_are_the_same(case: str, together: int) -> None:
    (whole, slope), (parts, chunked) = computed(case, 0), computed(case, together)
    assert parts.count == whole.count == 23
    assert parts.parts.keys() == whole.parts.keys()
    torch.testing.assert_close(parts.total, whole.total, rtol=1e-5, atol=0)
    torch.testing.assert_close(chunked, slope, rtol=1e-5, atol=1e-6 * float(slope.abs().max()))
    for name, value in whole.parts.items():
        torch.testing.assert_close(parts.parts[name], value, rtol=1e-5, atol=0)


def test_without_gradients_a_loss_in_chunks_is_the_same_number() -> None:
    loss = LOSSES.build(LOSS["distillation"])
    with torch.no_grad():
        whole, parts = (loss(inputs("distillation", 23, 40, together)).total for together in (0, 5))
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=0)
    assert not parts.requires_grad


class Held(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and remembers the most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._alive[StorageWeakRef(storage)] = storage.nbytes()
        self._alive = {held: size for held, size in self._alive.items() if not held.expired()}
        self.most = max(self.most, sum(self._alive.values()))
        return made


def bytes_held(case: str, positions: int, vocabulary: int, together: int) -> int:
    given = inputs(case, positions, vocabulary, together)
    loss = LOSSES.build(LOSS[case])
    held = Held()
    with held:
        loss(given).total.backward()
    return held.most


@pytest.mark.parametrize("case", ["cross_entropy", "distillation", "stored"])
def test_memory_does_not_grow_with_positions_times_vocabulary(case: str) -> None:
    scores = 4 * 64 * 500  # bytes of the scores at 64 positions, of fp32
    at_once = [bytes_held(case, positions, 500, 0) for positions in (256, 512)]
    assert at_once[1] - at_once[0] > 4 * scores
    small, longer, wider = (bytes_held(case, *size) for size in ((256, 500, 64), (2048, 500, 64), (256, 4000, 8)))
    states = 4 * WIDTH * 2048
    assert longer - small < 8 * states  # hidden states, their gradients and targets, and nothing of the vocabulary
    assert abs(wider - small) < scores  # eight times the vocabulary, an eighth of the positions at a time
    assert longer < at_once[0] / 2


@pytest.mark.parametrize("name", ["cross_entropy", "distillation"])
def test_a_decoder_with_many_scores_trains_alike(name: str, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = CausalLMDecoder(model=str(tiny_llm)).requires_grad_(False)
    loss, found = LOSSES.build({"name": name}), []
    for most in (2**22, 3 * decoder.vocabulary_size):
        monkeypatch.setattr(causal_lm, "CPU_SCORES", most)
        ids = torch.arange(2, 26).reshape(2, 12)
        rows = [decoder.embed(row).detach().requires_grad_() for row in ids]
        student = decoder.outputs(rows, [torch.arange(4, 11)] * 2)
        with torch.no_grad():
            teacher = decoder.outputs([row.detach().flip(0) for row in rows], [torch.arange(4, 11)] * 2)
        assert bool(student.together) == (most < 2**22)
        output = loss(LossInputs(torch.cat([row[5:] for row in ids]), student, teacher))
        output.total.backward()
        found.append((output.total.detach(), torch.stack([row.grad for row in rows if row.grad is not None])))
    (whole, slope), (parts, chunked) = found
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=0)
    torch.testing.assert_close(chunked, slope, rtol=1e-5, atol=1e-6 * float(slope.abs().max()))
    assert [part.logits.shape for part in student.split([3, 0, 11])] == [
        (n, decoder.vocabulary_size) for n in (3, 0, 11)
    ]
    torch.testing.assert_close(torch.cat([part.logits for part in student.split([3, 0, 11])]), student.logits)
