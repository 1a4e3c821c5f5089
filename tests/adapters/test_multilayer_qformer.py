import pytest
import torch
from torch import nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEncoder

from toolkit.adapters.multilayer_qformer import MultilayerQFormerAdapter
from toolkit.errors import ConfigError
from toolkit.testing import check_adapter
from toolkit.types import Padded

NAMES = (
    ("crossattention.output.LayerNorm", "cross_norm"), ("crossattention.output.dense", "cross_attention.out"),
    ("crossattention.self", "cross_attention"), ("attention.output.LayerNorm", "self_norm"),
    ("attention.output.dense", "self_attention.out"), ("attention.self", "self_attention"),
    ("intermediate.dense", "widen"), ("output.dense", "narrow"), ("output.LayerNorm", "feedforward_norm"),
    ("layer.", "layers."),
)  # fmt: skip
"""BERT's names in transformers -> ours"""


def bert(width: int, layers: int, heads: int, feedforward_dim: int) -> nn.Module:
    """Make DeSTA's Q-Former: BERT's encoder with cross-attention, and no causal mask between queries."""
    config = BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=feedforward_dim,
        is_decoder=True, add_cross_attention=True,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model: nn.Module = BertEncoder(config)
    return model


def build(taps: int = 3, input_dim: int = 36) -> MultilayerQFormerAdapter:
    torch.manual_seed(0)
    return MultilayerQFormerAdapter(
        input_dim, 16, taps=taps, queries=5, layers=2, hidden_dim=12, heads=4, feedforward_dim=20
    )


def test_it_keeps_the_law() -> None:
    check_adapter("multilayer_qformer", taps=3, queries=5, hidden_dim=24, heads=4, feedforward_dim=40)


@torch.no_grad()
def test_each_tap_is_asked_through_berts_encoder_and_mixed() -> None:
    adapter = build().eval()
    reference = bert(12, 2, 4, 20).eval()
    for parameter in (*reference.parameters(), adapter.mix, adapter.queries):
        nn.init.normal_(parameter, std=0.3)
    weights = {}
    for name, tensor in reference.state_dict().items():
        for theirs, mine in NAMES:
            name = name.replace(theirs, mine)
        weights[name] = tensor
    adapter.qformer.load_state_dict(weights)
    rows = [torch.randn(n, 36) for n in (7, 1, 20)]
    outputs = adapter(Padded.of(rows)).values
    for row, output in zip(rows, outputs, strict=True):
        answers = [
            reference(queries[None], encoder_hidden_states=layer[None]).last_hidden_state[0]
            for queries, layer in zip(adapter.queries, row.split(12, -1), strict=True)
        ]
        weight = adapter.mix.softmax(-1)
        mixed = sum(weight[:, t, None] * answer for t, answer in enumerate(answers))
        torch.testing.assert_close(output, adapter.project(mixed), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_layer_without_weight_is_not_heard() -> None:
    adapter, frames = build().eval(), torch.randn(1, 9, 36)
    adapter.mix[:, 2] = -torch.inf
    before = adapter(Padded(frames, torch.tensor([9]))).values
    frames[..., 24:] += 1
    assert torch.equal(before, adapter(Padded(frames, torch.tensor([9]))).values)
    frames[..., :12] += 1
    assert not torch.allclose(before, adapter(Padded(frames, torch.tensor([9]))).values)


def test_all_layers_begin_alike() -> None:
    assert torch.equal(build().mix.softmax(-1), torch.full((5, 3), 1 / 3))


def test_every_span_has_as_many_embeddings_as_a_layer_has_queries() -> None:
    assert build().output_lengths(torch.arange(1, 3001)).tolist() == [5] * 3000


@pytest.mark.parametrize(("width", "heads", "layers", "total"), [(768, 12, 2, 22_251_776), (1280, 20, 6, 131_540_224)])
def test_the_sizes_of_desta(width: int, heads: int, layers: int, total: int) -> None:
    """DeSTA2 on Whisper-small and DeSTA2.5 on Whisper-large-v3, both into an LLM of 4096 channels.

    We know of no published count. This one is the shape's, and the Q-Former's is that of BERT's encoder.
    """
    with torch.device("meta"):
        reference = bert(width, layers, heads, 3072)
        adapter = MultilayerQFormerAdapter(4 * width, 4096, taps=4, layers=layers, hidden_dim=width, heads=heads)
    qformer = sum(p.numel() for p in reference.parameters())
    assert sum(p.numel() for p in adapter.qformer.parameters()) == qformer
    around = 4 * 64 * width + 4 * 64 + 2 * width + width * 4096 + 4096
    assert sum(p.numel() for p in adapter.parameters()) == qformer + around == total


def test_a_gradient_reaches_every_parameter() -> None:
    adapter = build()
    adapter(Padded.of([torch.randn(n, 36) for n in (4, 9)])).values.square().sum().backward()
    # A key's bias shifts all scores of a query alike, which a softmax does not see.
    deaf = [n for n, p in adapter.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert [name for name in deaf if not name.endswith("key.bias")] == []


@pytest.mark.parametrize("taps", [0, 5])
def test_taps_that_do_not_fit_the_frames_are_refused(taps: int) -> None:
    with pytest.raises(ConfigError, match=f"adapter.taps {taps} does not divide the 36 channels of a frame"):
        build(taps=taps)
