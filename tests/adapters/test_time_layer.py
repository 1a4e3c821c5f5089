from typing import Any

import pytest
import torch

from toolkit.adapters.time_layer import TimeLayerAdapter
from toolkit.errors import ConfigError
from toolkit.testing import check_adapter
from toolkit.types import Padded

SMALL: dict[str, Any] = {"taps": 3, "pool": 4, "hidden_dim": None, "layer_heads": 2}


@pytest.mark.parametrize("options", [{}, {"hidden_dim": 16}, {"taps": 1, "pool": 1}])
def test_the_law_holds(options: dict[str, Any]) -> None:
    check_adapter("time_layer", **{**SMALL, **options})


def test_500_frames_become_25_as_published() -> None:
    adapter = TimeLayerAdapter(1, 1, hidden_dim=None, layer_heads=1)
    assert adapter.output_lengths(torch.tensor([500])).tolist() == [25]


def test_a_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    for options in (SMALL, {**SMALL, "hidden_dim": 8}):
        adapter = TimeLayerAdapter(12, 5, **options)
        (adapter(Padded(torch.randn(2, 20, 12), torch.tensor([20, 7]))).values * torch.randn(5)).sum().backward()
        assert [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_parameters_at_the_published_size() -> None:
    """Published: 48.8 M trainable, of which LoRA of rank 8 on q and v of 32 layers 4096 wide is 4.2 M."""
    with torch.device("meta"):
        adapter = TimeLayerAdapter(32 * 1280, 4096, taps=32, hidden_dim=None)
    count = sum(p.numel() for p in adapter.parameters())
    assert count == 2 * (12 * 1280 * 1280 + 13 * 1280) + 1280 * 4096 + 4096 == 44_601_856
    assert round((count + 32 * 2 * 2 * 8 * 4096) / 1e6, 1) == 48.8


def test_time_is_attended_layer_by_layer_and_layers_time_by_time() -> None:
    torch.manual_seed(0)
    adapter = TimeLayerAdapter(12, 5, **SMALL).eval()
    rows = [torch.randn(n, 12) for n in (18, 3)]
    embeddings, times = adapter.timed(Padded.of(rows))
    for row, made in zip(rows, embeddings.unpad(), strict=True):
        means = torch.stack([group.mean(0) for group in row.split(4)])
        heard = [adapter.over_time(layer[None])[0] for layer in means.split(4, dim=1)]  # 3 layers of 4 channels
        for step in range(len(means)):
            mixed = adapter.over_layers(torch.stack([layer[step] for layer in heard])[None])[0].mean(0)
            torch.testing.assert_close(made[step], adapter.out(adapter.norm(mixed)), atol=1e-5, rtol=0)
    assert times[0].tolist() == [1.5, 5.5, 9.5, 13.5, 16.5]
    assert times[1, 0] == 1.0


@pytest.mark.parametrize("grad", [True, False])
def test_a_batch_of_very_different_lengths_is_its_rows_alone(grad: bool) -> None:
    torch.manual_seed(0)
    adapter = TimeLayerAdapter(12, 5, **SMALL).eval()
    rows = [torch.randn(n, 12) for n in (1, 700, 3, 40)]
    with torch.set_grad_enabled(grad):
        together = adapter(Padded.of(rows)).unpad()
        for row, own in zip(rows, together, strict=True):
            torch.testing.assert_close(own, adapter(Padded.of([row])).values[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"taps": 5}, "12 channels are not those of adapter.taps 5 layers"),
        ({"taps": 0}, "12 channels are not those of adapter.taps 0 layers"),
        ({"pool": 0}, "pool must be at least 1, not 0"),
        ({"hidden_dim": None, "layer_heads": 8}, "hidden_dim 12 is not a multiple of adapter.layer_heads 8"),
        ({"hidden_dim": 10, "time_heads": 4}, "hidden_dim 10 is not a multiple of adapter.time_heads 4"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TimeLayerAdapter(12, 5, **options)
