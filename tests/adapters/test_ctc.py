"""The ctc adapter: what passes it."""

import torch

from toolkit.adapters.ctc import CTCAdapter
from toolkit.types import Padded


def build(residual: bool) -> tuple[CTCAdapter, Padded]:
    torch.manual_seed(0)
    adapter = CTCAdapter(4, 6, hidden_dim=8, heads=2, layers=1, residual=residual).eval()
    adapter.attach(torch.arange(3), torch.eye(6)[:3])
    return adapter, Padded.of([torch.randn(24, 4), torch.randn(9, 4)])


def test_nothing_but_tokens_passes() -> None:
    adapter, frames = build(residual=False)
    out = adapter(frames)
    said = out.values[out.mask]
    assert torch.equal(said[:, 3:], torch.zeros_like(said[:, 3:])), "the three tokens span the first three directions"
    torch.testing.assert_close(said.sum(1), torch.ones(len(said)))


def test_a_residual_is_nothing_at_first_and_learns_from_answers_alone() -> None:
    (plain, frames), (free, _) = build(residual=False), build(residual=True)
    assert free.load_state_dict(plain.state_dict(), strict=False).missing_keys == ["residual.weight", "residual.bias"]
    out = free(frames)
    assert torch.equal(out.values, plain(frames).values)
    assert free.residual is not None
    free.token_logits(frames).values.sum().backward()
    assert free.residual.weight.grad is None, "recognition leaves it alone"
    out.values[..., 5].sum().backward()
    assert free.residual.weight.grad is not None
    assert free.residual.weight.grad[5].abs().sum() > 0
