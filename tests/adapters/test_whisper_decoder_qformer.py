from typing import Any

import pytest
import torch
from torch import nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperDecoder

from toolkit.adapters.whisper_decoder_qformer import WhisperBlock, WhisperDecoderQFormerAdapter
from toolkit.errors import CheckpointError, ConfigError
from toolkit.testing import check_adapter
from toolkit.types import Padded


def decoder(width: int = 12, layers: int = 2, heads: int = 3, **sizes: int) -> Any:
    """Make the decoder of a random Whisper."""
    torch.manual_seed(1)
    config = WhisperConfig(
        d_model=width, decoder_layers=layers, decoder_attention_heads=heads,
        **{"decoder_ffn_dim": 4 * width, "vocab_size": 20, "max_target_positions": 8, "pad_token_id": 1, **sizes},
    )  # fmt: skip
    return WhisperDecoder(config).eval()


def state_of(reference: Any) -> dict[str, torch.Tensor]:
    """Name a decoder's tensors as the state of a whole Whisper does, beside something of its encoder."""
    own = {f"decoder.{name}": tensor for name, tensor in reference.state_dict().items()}
    return {**own, "encoder.layer_norm.weight": torch.zeros(12)}


def build(**options: Any) -> WhisperDecoderQFormerAdapter:
    torch.manual_seed(0)
    return WhisperDecoderQFormerAdapter(12, 16, **{"queries": 6, "layers": 2, "heads": 3, **options}).eval()


def test_it_keeps_the_law() -> None:
    check_adapter("whisper_decoder_qformer", queries=6, layers=2, heads=3)


@torch.no_grad()
def test_it_is_whispers_decoder_with_queries_for_tokens() -> None:
    reference, adapter = decoder(), build()
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.3)
    nn.init.normal_(adapter.queries)
    adapter.adopt(state_of(reference))
    rows = [torch.randn(n, 12) for n in (9, 1, 30)]
    outputs = adapter(Padded.of(rows)).values
    for row, output in zip(rows, outputs, strict=True):
        hidden = reference(inputs_embeds=adapter.queries[None], encoder_hidden_states=row[None]).last_hidden_state
        torch.testing.assert_close(output, adapter.project(hidden[0]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_queries_see_only_earlier_queries() -> None:
    adapter, frames = build(), Padded.of([torch.randn(9, 12)])
    before = adapter(frames).values[0]
    adapter.queries[3] += 1
    changed = (adapter(frames).values[0] != before).any(-1).tolist()
    assert changed == [False, False, False, True, True, True]


def test_every_span_has_as_many_embeddings_as_queries() -> None:
    assert build().output_lengths(torch.arange(1, 3001)).tolist() == [6] * 3000


def test_the_size_of_diva() -> None:
    """Whisper-large-v3's decoder without its token embeddings, 448 queries and the projection to Llama-3-8B."""
    with torch.device("meta"):
        adapter = WhisperDecoderQFormerAdapter(1280, 4096)
        reference = decoder(1280, 32, 20, vocab_size=51866, max_target_positions=448)
    whole = sum(p.numel() for p in reference.parameters()) - 51866 * 1280
    added = 448 * 1280 + 1280 * 4096 + 4096
    assert sum(p.numel() for p in adapter.parameters()) == whole + added


def test_a_head_has_64_channels_unless_told() -> None:
    heads = {}
    for width in (12, 384, 768, 1280):
        with torch.device("meta"):
            block = WhisperDecoderQFormerAdapter(width, 8, layers=1).blocks[0]
        assert isinstance(block, WhisperBlock)
        heads[width] = block.self_attention.heads
    assert heads == {12: 1, 384: 6, 768: 12, 1280: 20}


def test_a_gradient_reaches_every_parameter() -> None:
    adapter = build().train()
    adapter(Padded.of([torch.randn(n, 12) for n in (4, 9)])).values.square().sum().backward()
    assert [n for n, p in adapter.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)] == []


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"layers": 3}, r"3 layers, and adapter\.layers is 2"),
        ({"layers": 1}, r"1 layers, and adapter\.layers is 2"),
        ({"width": 24}, "24 channels, and the encoder's frames have 12"),
        ({"max_target_positions": 5}, r"5 positions, and adapter\.queries is 6"),
        ({"decoder_ffn_dim": 24}, r"'blocks\.0\.narrow\.weight' is \(12, 24\) in its decoder, and \(12, 48\) in the"),
    ],
)
def test_a_whisper_of_another_size_is_refused(sizes: dict[str, int], words: str) -> None:
    adapter = build()
    before = {key: tensor.clone() for key, tensor in adapter.state_dict().items()}
    with pytest.raises(CheckpointError, match=words):
        adapter.adopt(state_of(decoder(**sizes)))
    assert all(torch.equal(tensor, before[key]) for key, tensor in adapter.state_dict().items())


def test_no_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"adapter\.layers must be at least 1, not 0"):
        build(layers=0)


def test_a_model_that_is_no_whisper_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no Whisper decoder"):
        build().adopt({"layers.0.fc1.weight": torch.zeros(2, 2)})
