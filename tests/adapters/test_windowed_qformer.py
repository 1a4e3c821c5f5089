from typing import Any

import pytest
import torch
from torch import nn
from transformers import Blip2QFormerConfig, GraniteSpeechConfig, LlamaConfig
from transformers.models.granite_speech.modeling_granite_speech import GraniteSpeechEncoderProjector

from toolkit.adapters.windowed_qformer import WindowedQFormerAdapter
from toolkit.errors import ConfigError
from toolkit.testing import check_adapter
from toolkit.types import Padded

SMALL = {"layers": 2, "hidden_dim": 24, "heads": 4, "feedforward_dim": 40}
NAMES = (
    ("crossattention.output.LayerNorm", "cross_norm"), ("crossattention.output.dense", "cross_attention.out"),
    ("crossattention.attention", "cross_attention"), ("attention.output.LayerNorm", "self_norm"),
    ("attention.output.dense", "self_attention.out"), ("attention.attention", "self_attention"),
    ("intermediate_query.dense", "widen"), ("output_query.dense", "narrow"),
    ("output_query.LayerNorm", "feedforward_norm"), ("encoder.layer.", "layers."), ("layernorm.", "start.0."),
    ("linear.", "project."),
)  # fmt: skip
"""Granite's names in transformers -> ours"""


def build(**options: Any) -> WindowedQFormerAdapter:
    torch.manual_seed(0)
    return WindowedQFormerAdapter(12, 16, **{**SMALL, **options})


def granite(window: int, rate: int) -> tuple[WindowedQFormerAdapter, Any]:
    """Make the projector of a random Granite Speech, and our adapter with its weights."""
    projector = Blip2QFormerConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, encoder_hidden_size=12,
        cross_attention_frequency=1,
    )  # fmt: skip
    torch.manual_seed(1)
    config = GraniteSpeechConfig(
        projector_config=projector,
        text_config=LlamaConfig(hidden_size=16, num_attention_heads=4),
        window_size=window,
        downsample_rate=rate,
    )
    reference = GraniteSpeechEncoderProjector(config).eval()
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.3)
    weights = {}
    for name, tensor in reference.state_dict().items():
        for theirs, mine in NAMES:
            name = name.replace(theirs, mine)
        weights["queries" if name == "query" else name] = tensor[0] if name == "query" else tensor
    adapter = build(window=window, queries=window // rate).eval()
    adapter.load_state_dict(weights)
    return adapter, reference


def test_it_keeps_the_law() -> None:
    check_adapter("windowed_qformer", **SMALL, window=4, queries=3, streams=[5, 7])
    check_adapter("windowed_qformer", **SMALL, window=1, queries=2)


@pytest.mark.parametrize(("window", "rate"), [(15, 5), (6, 6), (4, 1)])
@torch.no_grad()
def test_whole_windows_are_those_of_granite_speech(window: int, rate: int) -> None:
    adapter, reference = granite(window, rate)
    frames = torch.randn(3, 4 * window, 12)
    outputs = adapter(Padded(frames, torch.full((3,), 4 * window)))
    torch.testing.assert_close(outputs.values, reference(frames), atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [1, 14, 16, 43])
@torch.no_grad()
def test_a_partial_window_is_granite_speech_with_the_missing_frames_masked(length: int) -> None:
    adapter, reference = granite(15, 5)
    frames = torch.randn(1, length, 12)
    outputs, theirs = adapter(Padded(frames, torch.tensor([length]))).values, reference(frames)
    assert outputs.shape == theirs.shape
    whole = 3 * (length // 15)
    torch.testing.assert_close(outputs[:, :whole], theirs[:, :whole], atol=1e-5, rtol=0)
    # Granite attends to the zeros that fill its last window; its own Q-Former, told of them, does what ours does.
    rest = nn.functional.pad(frames[:, length - length % 15 :], (0, 0, 0, -length % 15))
    hidden = reference.qformer(
        query_embeds=reference.query,
        encoder_hidden_states=rest,
        encoder_attention_mask=torch.arange(15)[None] < length % 15,
    ).last_hidden_state
    torch.testing.assert_close(outputs[:, whole:], reference.linear(hidden), atol=1e-5, rtol=0)
    assert not torch.allclose(outputs[:, whole:], theirs[:, whole:], atol=1e-3)


def test_lengths_are_exact() -> None:
    adapter = build(window=50, queries=2, layers=1, hidden_dim=4, heads=1, feedforward_dim=4).eval()
    lengths = torch.arange(1, 3001)
    expected = [2 * ((n + 49) // 50) for n in range(1, 3001)]
    assert adapter.output_lengths(lengths).tolist() == expected


def test_thirty_seconds_are_the_88_tokens_of_salmonn_and_a_remainder() -> None:
    adapter = build()
    assert adapter.output_lengths(torch.tensor([88 * 17, 1500])).tolist() == [88, 89]  # 1500 = 88 * 17 + 4


def test_queries_are_spread_over_the_frames_of_their_window() -> None:
    frames = Padded.of([torch.randn(6, 12), torch.randn(1, 12), torch.randn(8, 12)])
    embeddings, times = build(window=4, queries=2).timed(frames)
    assert embeddings.lengths.tolist() == [4, 2, 4]
    assert times[0].tolist() == [0.5, 2.5, 4.0, 5.0]
    assert times[1, :2].tolist() == [0.0, 0.0]
    assert times[2].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert build(window=17).timed(Padded.of([torch.randn(20, 12)]))[1].tolist() == [[8.0, 18.0]]


@torch.no_grad()
def test_a_window_hears_nothing_of_the_others() -> None:
    adapter, frames = build(window=4, queries=2).eval(), torch.randn(1, 12, 12)
    before = adapter(Padded(frames, torch.tensor([12]))).values
    frames[:, 4:8] += 1
    after = adapter(Padded(frames, torch.tensor([12]))).values
    changed = (before[0] != after[0]).any(-1).tolist()
    assert changed == [False, False, True, True, False, False]


@torch.no_grad()
def test_streams_are_normalised_alone() -> None:
    adapter, frames = build(streams=(5, 7)).eval(), torch.randn(2, 20, 12)
    lengths = torch.tensor([20, 11])
    louder = torch.cat([1000 * frames[..., :5], frames[..., 5:]], -1)
    before, after = adapter(Padded(frames, lengths)), adapter(Padded(louder, lengths))
    torch.testing.assert_close(before.unpad(), after.unpad(), atol=1e-3, rtol=0)


def test_the_size_of_salmonn() -> None:
    """The paper's shape: BERT-base, 2 layers, 1 query; Whisper-large-v2 beside BEATs, into Vicuna-13B.

    We know of no published count. This one is the shape's: BERT's word and position embeddings, its text
    feed-forward and its language head, none of which the queries use, are not in it.
    """
    with torch.device("meta"):
        adapter = WindowedQFormerAdapter(1280 + 768, 5120, streams=(1280, 768))
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in adapter.named_children()}
    square, cross, wide = 768 * 768 + 768, 2048 * 768 + 768, 768 * 3072
    layer = 4 * square + 2 * square + 2 * cross + 2 * wide + 3072 + 768 + 3 * 2 * 768
    assert counts == {"norms": 2 * 2048, "qformer": 2 * layer + 2 * 768, "project": 768 * 5120 + 5120}
    assert adapter.queries.numel() == 768
    assert sum(p.numel() for p in adapter.parameters()) == 26_779_392


def test_a_gradient_reaches_every_parameter() -> None:
    adapter = build(window=4, queries=2, streams=(5, 7))
    adapter(Padded.of([torch.randn(n, 12) for n in (4, 9)])).values.square().sum().backward()
    # A key's bias shifts all scores of a query alike, which a softmax does not see.
    deaf = [n for n, p in adapter.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert [name for name in deaf if not name.endswith("key.bias")] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "adapter.window must be at least 1 frame, not 0"),
        ({"streams": (5, 6)}, "adapter.streams add up to 11 channels, but frames have 12"),
    ],
)
def test_impossible_sizes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)
