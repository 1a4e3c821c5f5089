from typing import Any

import pytest
import torch

from toolkit.adapters.alignformer import AlignFormerAdapter, token_windows
from toolkit.interfaces import TokenAdapter
from toolkit.losses.ctc import CTCLoss
from toolkit.testing import check_adapter
from toolkit.types import LossInputs, Padded, SpanOutputs

SMALL: dict[str, Any] = {
    "factor": 2, "hidden_dim": 16, "layers": 1, "query_layers": 1, "heads": 2, "dropout": 0.0, "time_masks": 0,
}  # fmt: skip


def an_adapter(**options: Any) -> AlignFormerAdapter:
    torch.manual_seed(0)
    adapter = AlignFormerAdapter(4, 6, **{**SMALL, **options}).eval()
    adapter.attach(torch.arange(3), torch.randn(3, 6))
    adapter.query.data.normal_()
    return adapter


@pytest.mark.parametrize("options", [{}, {"context": 2, "factor": 1}])
def test_the_law_holds(options: dict[str, Any]) -> None:
    check_adapter("alignformer", **{**SMALL, **options})


@pytest.mark.parametrize(
    ("labels", "length", "expected"),
    [
        # Step 4 is as far from either token and goes to the earlier one.
        ([0, 0, 3, 0, 0, 0, 5, 5, 0], 9, [0, 0, 0, 0, 0, 1, 1, 1, 1]),
        ([3, 3, 0, 3, 4, 0, 0, 0, 0], 6, [0, 0, 0, 1, 2, 2, -1, -1, -1]),
        ([2, 0, 0, 0, 0, 0, 0, 0, 0], 1, [0, -1, -1, -1, -1, -1, -1, -1, -1]),
        ([0, 0, 0, 0, 0, 0, 0, 0, 1], 9, [0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_windows_worked_out_by_hand(labels: list[int], length: int, expected: list[int]) -> None:
    row = torch.tensor([labels])
    assert token_windows(row, Padded(row, torch.tensor([length])).mask).tolist() == [expected]


def test_a_query_sees_its_own_window_only() -> None:
    """With one layer the queries have nothing to tell each other yet, so each may be run alone on its window."""
    adapter = an_adapter()
    frames = Padded.of([torch.randn(n, 4) for n in (60, 7, 1)])
    with torch.no_grad():
        embeddings, times = adapter.timed(frames)
        hidden = adapter._hidden(frames)
        windows = token_windows(adapter._labels(adapter.token_logits(frames).values, hidden.mask), hidden.mask)
        for i, made in enumerate(embeddings.unpad()):
            for number, output in enumerate(made):
                inside = (windows[i] == number).nonzero().flatten()
                x = adapter.query_layers[0](adapter.query[None, None], hidden.values[i, inside][None])
                torch.testing.assert_close(output, adapter.out(adapter.out_norm(x))[0, 0], atol=1e-5, rtol=0)
                centres = (2 * inside + 0.5).clamp(max=int(frames.lengths[i]) - 1)
                assert float(times[i, number]) == pytest.approx(float(centres.mean()))
    assert 1 < embeddings.lengths[0] < 30
    assert embeddings.lengths[2] == 1


@pytest.mark.parametrize("grad", [True, False])
def test_a_batch_of_very_different_lengths_is_its_rows_alone(grad: bool) -> None:
    adapter = an_adapter(query_layers=2)
    rows = [torch.randn(n, 4) for n in (1, 400, 3, 40)]
    with torch.set_grad_enabled(grad):
        together = adapter(Padded.of(rows)).unpad()
        for row, own in zip(rows, together, strict=True):
            torch.testing.assert_close(own, adapter(Padded.of([row])).values[0], atol=1e-5, rtol=0)


def test_there_are_as_many_embeddings_as_recognised_tokens() -> None:
    adapter = an_adapter()
    adapter.blank.bias.data.fill_(1000.0)
    assert adapter(Padded.of([torch.randn(30, 4), torch.randn(2, 4)])).lengths.tolist() == [1, 1]


def test_ctc_and_imitation_together_reach_every_parameter() -> None:
    adapter = an_adapter(query_layers=2).train()
    assert isinstance(adapter, TokenAdapter)
    frames = Padded.of([torch.randn(30, 4), torch.randn(9, 4)])
    targets = Padded.of([torch.tensor([1, 2, 3]), torch.tensor([2])])
    spans = SpanOutputs(adapter.token_logits(frames), targets)
    CTCLoss()(LossInputs(torch.zeros(0), spans=spans)).total.backward()
    (adapter(frames).values * torch.randn(6)).sum().backward()
    assert [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
