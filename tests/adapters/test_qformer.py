import pytest
import torch
from torch import nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from toolkit.adapters.qformer import QFormerAdapter
from toolkit.errors import ConfigError
from toolkit.testing import check_adapter
from toolkit.types import Padded

TINY = {"queries": 5, "layers": 3, "hidden_dim": 24, "heads": 4, "feedforward_dim": 40}
NAMES = (
    ("crossattention.output.LayerNorm", "cross_norm"), ("crossattention.output.dense", "cross_attention.out"),
    ("crossattention.attention", "cross_attention"), ("attention.output.LayerNorm", "self_norm"),
    ("attention.output.dense", "self_attention.out"), ("attention.attention", "self_attention"),
    ("intermediate_query.dense", "widen"), ("output_query.dense", "narrow"),
    ("output_query.LayerNorm", "feedforward_norm"), ("encoder.layer.", "layers."), ("layernorm.", "start.0."),
)  # fmt: skip
"""BLIP-2's names in transformers -> ours"""


def ours(name: str) -> str:
    for theirs, mine in NAMES:
        name = name.replace(theirs, mine)
    return name


def blip2(input_dim: int, layers: int, hidden_dim: int, heads: int, feedforward_dim: int) -> nn.Module:
    config = Blip2QFormerConfig(
        hidden_size=hidden_dim, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=feedforward_dim, encoder_hidden_size=input_dim, cross_attention_frequency=1,
    )  # fmt: skip
    model: nn.Module = Blip2QFormerModel(config)
    return model


def test_it_keeps_the_law() -> None:
    check_adapter("qformer", **TINY)


def test_it_is_blip2_with_padding_masked() -> None:
    torch.manual_seed(0)
    reference = blip2(12, 3, 24, 4, 40).eval()
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.3)
    adapter = QFormerAdapter(12, 16, queries=5, layers=3, hidden_dim=24, heads=4, feedforward_dim=40).eval()
    adapter.qformer.load_state_dict({ours(name): tensor for name, tensor in reference.state_dict().items()})
    frames = Padded.of([torch.randn(n, 12) for n in (9, 1, 30)])
    with torch.no_grad():
        hidden = reference(
            query_embeds=adapter.queries.expand(3, -1, -1),
            encoder_hidden_states=frames.values,
            encoder_attention_mask=frames.mask,
        ).last_hidden_state
        torch.testing.assert_close(adapter(frames).values, adapter.project(hidden), atol=1e-5, rtol=0)


def test_every_span_has_as_many_embeddings_as_queries() -> None:
    adapter = QFormerAdapter(12, 16, queries=5, layers=1, hidden_dim=8, heads=2, feedforward_dim=8)
    assert adapter.output_lengths(torch.arange(1, 3001)).tolist() == [5] * 3000
    assert adapter(Padded.of([torch.randn(n, 12) for n in (1, 3000)])).values.shape == (2, 5, 16)


def test_it_has_the_parameters_of_blip2() -> None:
    with torch.device("meta"):
        adapter, reference = QFormerAdapter(1280, 4096), blip2(1280, 2, 768, 12, 3072)
    count = sum(p.numel() for p in adapter.qformer.parameters())
    assert count == sum(p.numel() for p in reference.parameters())
    attention = 2 * 768 * 768 + 2 * 768 + 2 * 768  # query and out, their biases, and those of key and value
    layer = 2 * attention + 2 * 768 * 768 + 2 * 1280 * 768 + 2 * 768 * 3072 + 3072 + 768 + 3 * 2 * 768
    assert count == 2 * layer + 2 * 768


def test_a_gradient_reaches_every_parameter() -> None:
    adapter = QFormerAdapter(12, 16, queries=5, layers=2, hidden_dim=24, heads=4, feedforward_dim=40)
    adapter(Padded.of([torch.randn(n, 12) for n in (4, 9)])).values.square().sum().backward()
    # A key's bias shifts all scores of a query alike, which a softmax does not see.
    deaf = [n for n, p in adapter.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert [name for name in deaf if not name.endswith("key.bias")] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "adapter.heads 5 does not divide the 768 channels"),
        ({"queries": 0}, "adapter.queries must be at least 1, not 0"),
        ({"layers": 0}, "adapter.layers must be at least 1, not 0"),
    ],
)
def test_impossible_sizes_are_refused(options: dict[str, int], message: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        QFormerAdapter(12, 16, **options)
