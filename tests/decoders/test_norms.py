"""Norms written out give what transformers' own give, forward and backward."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from toolkit.decoders import norms
from toolkit.decoders.norms import ALIKE, quicken_norms


def norm_of(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    family = name.removesuffix("RMSNorm").lower()
    made: nn.Module = getattr(import_module(f"transformers.models.{family}.modeling_{family}"), name)(24, eps=1e-3)
    nn.init.normal_(made.weight, generator=torch.Generator().manual_seed(2))  # type: ignore[arg-type]
    return made.to(dtype).requires_grad_(False)


def computed(norm: nn.Module, dtype: torch.dtype = torch.float32, size: float = 1.0) -> list[Tensor]:
    chance = torch.Generator().manual_seed(0)
    x = (size * torch.randn(2, 5, 24, generator=chance)).to(dtype).requires_grad_()
    found = norm(x)
    found.backward(torch.randn(found.shape, generator=chance).to(dtype))
    assert x.grad is not None
    return [found.detach(), x.grad]


@pytest.mark.parametrize("size", [0.0, 0.01, 1.0, 1000.0])
@pytest.mark.parametrize("name", ALIKE)
def test_they_give_what_transformers_gives(name: str, size: float) -> None:
    norm = norm_of(name)
    theirs = computed(norm, size=size)
    quicken_norms(norm)
    for one, other in zip(computed(norm, size=size), theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_of_mixed_precision_they_give_what_transformers_gives() -> None:
    norm = norm_of(ALIKE[0])
    theirs = computed(norm, torch.bfloat16)
    quicken_norms(norm)
    for one, other in zip(computed(norm, torch.bfloat16), theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_in_bf16_they_are_no_further_from_the_truth() -> None:
    truth = computed(norm_of(ALIKE[0]))
    norm = norm_of(ALIKE[0], torch.bfloat16)
    theirs = computed(norm, torch.bfloat16)
    quicken_norms(norm)
    for right, one, other in zip(truth, computed(norm, torch.bfloat16), theirs, strict=True):
        assert (one.float() - right).norm() < 1.2 * (other.float() - right).norm()


def test_only_frozen_ones_and_only_with_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    norm: Any = norm_of(ALIKE[0])
    quicken_norms(norm)
    copied = deepcopy(norm)
    monkeypatch.setattr(norms, "_Norm", None)  # none of this is for it
    with torch.no_grad():
        norm(torch.ones(2, 24, requires_grad=True))
    norm(torch.ones(2, 24))
    norm.weight.requires_grad_(True)
    norm(torch.ones(2, 24, requires_grad=True)).sum().backward()
    assert norm.weight.grad is not None
    assert copied.weight.grad is None
    with pytest.raises(AttributeError):
        copied(torch.ones(2, 24, requires_grad=True))
