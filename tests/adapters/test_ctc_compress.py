from itertools import groupby
from typing import Any

import pytest
import torch

from toolkit.adapters.ctc import CTCAdapter, label_runs
from toolkit.adapters.ctc_compress import CTCCompressAdapter, members
from toolkit.interfaces import TokenAdapter
from toolkit.losses.ctc import CTCLoss
from toolkit.testing import check_adapter
from toolkit.types import LossInputs, Padded, SpanOutputs

SMALL: dict[str, Any] = {"factor": 2, "hidden_dim": 16, "layers": 1, "heads": 2, "dropout": 0.0, "time_masks": 0}


def an_adapter(**options: Any) -> CTCCompressAdapter:
    torch.manual_seed(0)
    adapter = CTCCompressAdapter(4, 6, **{**SMALL, **options}).eval()
    adapter.attach(torch.arange(3), torch.randn(3, 6))
    return adapter


@pytest.mark.parametrize("options", [{}, {"keep_blanks": True}, {"context": 2, "factor": 1}])
def test_the_law_holds(options: dict[str, Any]) -> None:
    check_adapter("ctc_compress", **{**SMALL, **options})


def test_runs_are_numbered_by_hand() -> None:
    labels = torch.tensor([[0, 3, 3, 0, 3, 5, 5], [4, 4, 0, 0, 0, 0, 0]])
    lengths = torch.tensor([7, 3])
    assert label_runs(labels, labels != 0).tolist() == [[-1, 0, 0, -1, 1, 2, 2], [0, 0, -1, -1, -1, -1, -1]]
    with_blanks = label_runs(labels, Padded(labels, lengths).mask)
    assert with_blanks.tolist() == [[0, 1, 1, 2, 3, 4, 4], [0, 0, 1, -1, -1, -1, -1]]
    runs = members(with_blanks[1:])
    assert runs.lengths.tolist() == [2]
    assert runs.values[0].int().tolist() == [[1, 1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]]


@pytest.mark.parametrize("keep_blanks", [False, True])
def test_each_run_is_the_mean_of_its_hidden_states(keep_blanks: bool) -> None:
    adapter = an_adapter(keep_blanks=keep_blanks)
    frames = Padded.of([torch.randn(n, 4) for n in (60, 7, 1)])
    with torch.no_grad():
        embeddings, times = adapter.timed(frames)
        hidden = adapter._hidden(frames)
        labels = Padded(adapter._labels(adapter.token_logits(frames).values, hidden.mask), hidden.lengths)
        rows = zip(hidden.unpad(), labels.unpad(), embeddings.unpad(), times, frames.lengths.tolist(), strict=True)
        for states, row, made, when, length in rows:
            runs = [list(run) for _, run in groupby(range(len(row)), key=lambda t, row=row: int(row[t]))]  # type: ignore[misc]
            runs = [run for run in runs if keep_blanks or row[run[0]] != 0]
            expected = torch.stack([adapter.out(adapter.out_norm(states[run].mean(0))) for run in runs])
            torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)
            centres = [sum(min(2 * t + 0.5, length - 1) for t in run) / len(run) for run in runs]
            assert when[: len(runs)].tolist() == pytest.approx(centres)
    assert embeddings.lengths[0] < 30


def test_a_row_of_blanks_has_one_embedding() -> None:
    adapter = an_adapter()
    adapter.blank.bias.data.fill_(1000.0)
    embeddings = adapter(Padded.of([torch.randn(30, 4), torch.randn(2, 4)]))
    assert embeddings.lengths.tolist() == [1, 1]
    assert an_adapter(keep_blanks=True)(Padded.of([torch.randn(1, 4)])).lengths.tolist() == [1]


@pytest.mark.parametrize("grad", [True, False])
def test_a_batch_of_very_different_lengths_is_its_rows_alone(grad: bool) -> None:
    adapter = an_adapter()
    rows = [torch.randn(n, 4) for n in (1, 400, 3, 40)]
    with torch.set_grad_enabled(grad):
        together = adapter(Padded.of(rows)).unpad()
        for row, own in zip(rows, together, strict=True):
            torch.testing.assert_close(own, adapter(Padded.of([row])).values[0], atol=1e-5, rtol=0)


def test_it_recognises_like_the_adapter_that_emits_tokens() -> None:
    adapter = an_adapter()
    ctc = CTCAdapter(4, 6, **SMALL).eval()
    ctc.attach(torch.arange(3), adapter._embeddings)
    adapter.load_state_dict(ctc.state_dict(), strict=False)
    frames = Padded.of([torch.randn(9, 4), torch.randn(4, 4)])
    torch.testing.assert_close(adapter.token_logits(frames).values, ctc.token_logits(frames).values)


def test_ctc_and_imitation_together_reach_every_parameter() -> None:
    adapter = an_adapter().train()
    assert isinstance(adapter, TokenAdapter)
    frames = Padded.of([torch.randn(30, 4), torch.randn(9, 4)])
    targets = Padded.of([torch.tensor([1, 2, 3]), torch.tensor([2])])
    spans = SpanOutputs(adapter.token_logits(frames), targets)
    CTCLoss()(LossInputs(torch.zeros(0), spans=spans)).total.backward()
    (adapter(frames).values * torch.randn(6)).sum().backward()
    assert [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
