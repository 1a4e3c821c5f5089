import math

import pytest
import torch
from torch import nn

from toolkit.adapters.conv import ConvAdapter
from toolkit.testing import check_adapter
from toolkit.types import Padded


@pytest.mark.parametrize("layers", [1, 3])
def test_the_law_holds(layers: int) -> None:
    check_adapter("conv", layers=layers)


def test_the_length_formula_is_exact() -> None:
    formula = ConvAdapter(1, 1, bottleneck=1).output_lengths(torch.arange(1, 3001))
    assert formula.tolist() == [math.ceil(n / 8) for n in range(1, 3001)]


def test_a_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    adapter = ConvAdapter(4, 6)
    (adapter(Padded(torch.randn(2, 30, 4), torch.tensor([30, 9]))).values * torch.randn(6)).sum().backward()
    assert [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_parameters_at_the_published_size() -> None:
    """Whisper-small and Llama-2-7B: "about 47.5 M"."""
    with torch.device("meta"):
        adapter = ConvAdapter(768, 4096)
    convolutions = 2 * (5 * 768 * 1536 + 1536) + 5 * 768 * 8192 + 8192
    assert sum(p.numel() for p in adapter.parameters()) == convolutions + 2 * 4096 * 512 + 2 * 4096 == 47_467_520
    convolved = [c for c in adapter.convolutions if isinstance(c, nn.Conv1d)]
    shapes = [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0], c.padding[0]) for c in convolved]
    assert shapes == [(768, 1536, 5, 2, 2), (768, 1536, 5, 2, 2), (768, 8192, 5, 2, 2)]


def test_an_output_worked_out_by_hand() -> None:
    """One layer, one channel in, two out, and a bottleneck of one."""
    adapter = ConvAdapter(1, 2, layers=1, bottleneck=1)
    # Values of both channels: the sum of the five frames around; their gates: 0, so GLU halves; and huge, so it keeps.
    kernel = torch.tensor([1.0, 1.0, 0.0, 0.0])[:, None, None].expand(4, 1, 5)
    adapter.load_state_dict({
        "convolutions.0.weight": kernel, "convolutions.0.bias": torch.tensor([0.0, 0.0, 0.0, 100.0]),
        "down.weight": torch.tensor([[1.0, 0.0]]), "up.weight": torch.tensor([[0.0], [2.0]]),
        "norm.weight": torch.tensor([1.0, 3.0]), "norm.bias": torch.tensor([0.0, 0.5]),
    })  # fmt: skip
    seen: list[torch.Tensor] = []
    adapter.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    embeddings, times = adapter.timed(Padded(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([3])))
    # Both outputs see all three frames: 6 -> (3, 6), and the bottleneck adds 2 gelu(3) to the second.
    gelu = 3 * 0.5 * (1 + math.erf(3 / math.sqrt(2)))
    torch.testing.assert_close(seen[0], torch.tensor([[[3.0, 6.0 + 2 * gelu]] * 2]), atol=1e-5, rtol=0)
    # A norm of two different numbers is -1 and 1.
    torch.testing.assert_close(embeddings.values, torch.tensor([[[-1.0, 3.5]] * 2]), atol=1e-4, rtol=0)
    assert times.tolist() == [[0.0, 2.0]]


def test_glu_follows_every_convolution_and_the_norm_comes_last() -> None:
    torch.manual_seed(0)
    adapter = ConvAdapter(4, 6, bottleneck=3)
    frames = torch.randn(2, 29, 4)
    chain = nn.Sequential(*(nn.Sequential(c, nn.GLU(dim=1)) for c in adapter.convolutions))
    x = chain(frames.transpose(1, 2)).transpose(1, 2)
    x = adapter.norm(x + adapter.up(nn.GELU()(adapter.down(x))))
    torch.testing.assert_close(adapter(Padded(frames, torch.tensor([29, 29]))).values, x, atol=1e-5, rtol=0)
