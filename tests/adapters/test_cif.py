from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.adapters.cif import CIFAdapter, integrate_and_fire
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS
from toolkit.registry import config_class
from toolkit.testing import check_adapter
from toolkit.types import Padded

SMALL: dict[str, Any] = {"hidden_dim": 8, "layers_before": 1, "layers_after": 1, "heads": 2, "dropout": 0.0}


def one_by_one(weights: list[float], tail: float) -> list[list[float]]:
    """Integrate and fire as it is told: frame after frame, with a bucket that holds 1."""
    outputs: list[list[float]] = []
    bucket, gathered = [0.0] * len(weights), 0.0
    for frame, weight in enumerate(weights):
        while gathered + weight >= 1:
            bucket[frame] += 1 - gathered
            weight -= 1 - gathered
            outputs.append(bucket)
            bucket, gathered = [0.0] * len(weights), 0.0
        bucket[frame] += weight
        gathered += weight
    if gathered >= tail or not outputs:
        outputs.append([share / gathered for share in bucket])
    return outputs


@pytest.mark.parametrize("options", [{}, {"hidden_dim": None}, {"frames_per_token": 1.5, "tail": 1.0}])
def test_the_law_holds(options: dict[str, Any]) -> None:
    check_adapter("cif", **{**SMALL, **options})


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([0.5, 0.5, 0.5, 0.5], [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]),
        ([0.75, 0.75], [[0.75, 0.25], [0, 1]]),  # a rest of half a token is a token, scaled to 1
        ([0.25, 1.0, 0.25], [[0.25, 0.75, 0], [0, 0.5, 0.5]]),
        ([0.75, 0.5, 0.125], [[0.75, 0.25, 0]]),  # a rest of less is dropped
        ([0.125, 0.375], [[0.25, 0.75]]),
        ([0.125, 0.125], [[0.5, 0.5]]),  # but a row that never fires fires once
        ([1.0, 1.0], [[1, 0], [0, 1]]),
    ],
)
def test_shares_worked_out_by_hand(weights: list[float], expected: list[list[float]]) -> None:
    shares, counts = integrate_and_fire(Padded.of([torch.tensor(weights)]), tail=0.5)
    assert counts.tolist() == [len(expected)]
    assert shares[0].tolist() == expected == one_by_one(weights, 0.5)


@pytest.mark.parametrize("tail", [0.1, 0.5, 1.0])
def test_all_at_once_is_one_by_one(tail: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.rand(n, generator=generator) ** power for n in (1, 2, 9, 70, 300) for power in (0.3, 1, 6)]
    batch = Padded.of(rows)
    batch = Padded(batch.values.masked_fill(~batch.mask, torch.nan), batch.lengths)
    shares, counts = integrate_and_fire(batch, tail)
    for row, own, count in zip(rows, shares, counts.tolist(), strict=True):
        expected = one_by_one(row.tolist(), tail)
        assert count == len(expected)
        torch.testing.assert_close(own[:count, : len(row)], torch.tensor(expected), atol=2e-5, rtol=0)
        assert not own[:count, len(row) :].any()


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    weights = torch.rand(2, 7, dtype=torch.float64, requires_grad=True)
    frames = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([7, 4])

    def fire(weights: Tensor, frames: Tensor) -> Tensor:
        shares, counts = integrate_and_fire(Padded(weights, lengths), 0.5)
        return torch.cat(Padded(shares @ frames, counts).unpad())

    assert torch.autograd.gradcheck(fire, (weights, frames))
    (gradient,) = torch.autograd.grad(fire(weights, frames).square().sum(), weights)
    assert gradient[0].any()
    assert not gradient[1, 4:].any()


def adapter_of(weights_bias: float = 0.0, **options: Any) -> CIFAdapter:
    torch.manual_seed(0)
    adapter = CIFAdapter(4, 6, **{**SMALL, **options}).eval()
    adapter.weight.bias.data.fill_(weights_bias)
    return adapter


@pytest.mark.parametrize("grad", [True, False])
def test_a_batch_of_very_different_lengths_is_its_rows_alone(grad: bool) -> None:
    adapter = adapter_of()
    rows = [torch.randn(n, 4) for n in (1, 600, 3, 40)]
    with torch.set_grad_enabled(grad):
        together, times = adapter.timed(Padded.of(rows))
        alone = [adapter.timed(Padded.of([row])) for row in rows]
        quantities = adapter.quantities(Padded.of(rows))
    assert together.lengths[1] > 100
    for i, (own, when) in enumerate(alone):
        torch.testing.assert_close(together.unpad()[i], own.values[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(times[i, : own.lengths[0]], when[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(quantities[i], adapter.quantities(Padded.of([rows[i]]))[0], atol=1e-5, rtol=1e-6)


def test_a_gradient_reaches_every_parameter() -> None:
    adapter = adapter_of()
    (adapter(Padded(torch.randn(2, 30, 4), torch.tensor([30, 9]))).values * torch.randn(6)).sum().backward()
    assert [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_a_length_loss_moves_the_number_of_outputs_to_its_target() -> None:
    adapter = adapter_of()
    frames = Padded.of([torch.randn(40, 4), torch.randn(16, 4)])
    targets = torch.tensor([5, 12])
    optimizer = torch.optim.Adam(adapter.parameters(), 2e-3)
    for _ in range(200):
        optimizer.zero_grad()
        (adapter.quantities(frames) - targets).abs().sum().backward()
        optimizer.step()
    torch.testing.assert_close(adapter.quantities(frames), targets.float(), atol=0.4, rtol=0)
    assert adapter(frames).lengths.tolist() == targets.tolist()


def test_an_untrained_adapter_fires_every_so_many_frames() -> None:
    adapter = CIFAdapter(4, 6, **SMALL, frames_per_token=10)
    torch.nn.init.zeros_(adapter.weight.weight)
    frames = Padded(torch.randn(2, 60, 4), torch.tensor([60, 37]))
    embeddings, times = adapter.timed(frames)
    assert adapter.quantities(frames).tolist() == pytest.approx([6.0, 3.7])
    assert embeddings.lengths.tolist() == [6, 4]
    # The last four outputs of 37 frames are the mean of 30..36: it has gathered less than the others.
    assert times[1, :4].tolist() == pytest.approx([4.5, 14.5, 24.5, 33.0], abs=1e-3)


def test_no_more_outputs_than_output_lengths_says() -> None:
    lengths = torch.tensor([1, 2, 3, 70, 999])
    _, counts = integrate_and_fire(Padded(torch.ones(5, 999), lengths), tail=0.01)
    assert counts.tolist() == adapter_of().output_lengths(lengths).tolist()


def test_parameters_at_the_published_layers() -> None:
    """Whisper-large-v2 and Qwen-7B, four and four layers: by hand, since no count is published."""
    with torch.device("meta"):
        adapter = CIFAdapter(1280, 4096, hidden_dim=None, heads=20)
    layer = 12 * 1280 * 1280 + 13 * 1280
    count = 8 * layer + 2 * 2 * 1280 + 1281 + 1280 * 4096 + 4096
    assert sum(p.numel() for p in adapter.parameters()) == count == 162_672_897


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 10, "heads": 4}, "hidden_dim 10 is not a multiple of adapter.heads 4"),
        ({"hidden_dim": None, "heads": 3}, "hidden_dim 4 is not a multiple of adapter.heads 3"),
        ({"frames_per_token": 1}, "more than 1, not 1"),
        ({"tail": 0.0}, "above 0 and at most 1, not 0.0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CIFAdapter(4, 6, **options)


def test_the_hidden_width_may_be_null_in_a_configuration() -> None:
    from omegaconf import OmegaConf

    schema = OmegaConf.structured(config_class("cif", ADAPTERS["cif"]))
    options = OmegaConf.to_container(OmegaConf.merge(schema, OmegaConf.create("{hidden_dim: null, heads: 2}")))
    assert isinstance(options, dict)
    adapter = ADAPTERS.build({str(key): value for key, value in options.items()}, 4, 6)
    assert isinstance(adapter, CIFAdapter)
    assert adapter.out.in_features == 4
