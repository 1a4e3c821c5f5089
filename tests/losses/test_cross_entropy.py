"""Cross-entropy with its gradient at hand: torch's own numbers, in any precision and however few rows go together."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from toolkit.losses import cross_entropy as module
from toolkit.losses.cross_entropy import cross_entropy

VOCABULARY = 50


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 4, 11, 100])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_it_is_that_of_torch(dtype: torch.dtype, rows: int, weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER", {"cpu": rows * VOCABULARY})
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(11, VOCABULARY, generator=generator)).to(dtype)
    targets = torch.randint(VOCABULARY, (11,), generator=generator)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    total, known = cross_entropy(ours, targets), functional.cross_entropy(theirs.float(), targets, reduction="sum")
    torch.testing.assert_close(total, known, rtol=1e-6, atol=0)
    (weight * total).backward()
    (weight * known).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert ours.grad.dtype == dtype
    last_digit = torch.finfo(dtype).eps
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=2 * last_digit, atol=1e-7)


def test_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]], requires_grad=True)  # probabilities 1/4 and 3/4
    total = cross_entropy(logits, torch.tensor([0]))
    total.backward()
    assert float(total.detach()) == pytest.approx(math.log(4.0))
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.75, 0.75]]))


def test_a_sure_target_costs_nothing_and_nothing_is_asked_of_no_position() -> None:
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    assert float(cross_entropy(logits, torch.tensor([0])).detach()) == 0.0
    none = torch.zeros(0, VOCABULARY, requires_grad=True)
    total = cross_entropy(none, torch.zeros(0, dtype=torch.long))
    total.backward()
    assert float(total.detach()) == 0.0
    assert none.grad is not None
    assert none.grad.shape == (0, VOCABULARY)
    with torch.no_grad():
        assert not cross_entropy(logits, torch.tensor([1])).requires_grad
