"""An adapter whose dimensions cannot fit says which two numbers disagree."""

from typing import Any

import pytest
import torch

from toolkit.adapters.ctc import CTCAdapter
from toolkit.config import load_parts
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS

load_parts()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ctc", {"hidden_dim": 10, "heads": 4}, "adapter.hidden_dim 10 is not a multiple of adapter.heads 4"),
        ("ctc", {"heads": 0}, "adapter.hidden_dim 512 is not a multiple of adapter.heads 0"),
        ("ctc", {"hidden_dim": 9, "heads": 3}, "adapter.hidden_dim 9 is odd"),
        ("ctc", {"factor": 0}, "adapter.factor must be at least 1, not 0"),
        ("ctc_compress", {"hidden_dim": 10, "heads": 4}, "hidden_dim 10 is not a multiple of adapter.heads 4"),
        ("alignformer", {"hidden_dim": 10, "heads": 4}, "hidden_dim 10 is not a multiple of adapter.heads 4"),
        ("cif", {"heads": -1}, "adapter.hidden_dim 512 is not a multiple of adapter.heads -1"),
        ("time_layer", {"time_heads": 0}, "adapter.hidden_dim 512 is not a multiple of adapter.time_heads 0"),
        ("qformer", {"heads": 5}, "adapter.heads 5 does not divide the 768 channels"),
        ("windowed_qformer", {"heads": 5}, "adapter.heads 5 does not divide the 768 channels"),
        ("whisper_decoder_qformer", {"heads": 5}, "adapter.heads 5 does not divide the 12 channels"),
        ("multilayer_qformer", {"taps": 5}, "adapter.taps 5 does not divide the 12 channels of a frame"),
        ("time_layer", {"taps": 5}, "frames of 12 channels are not those of adapter.taps 5 layers"),
        ("windowed_qformer", {"streams": [5, 6]}, "add up to 11 channels, but frames have 12"),
        ("conv", {"kernel": 4}, "adapter.kernel is odd, so that it has a middle, not 4"),
        ("conv", {"layers": 0}, "adapter.layers and adapter.bottleneck are at least 1, not 0 and 512"),
    ],
)
def test_both_numbers_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ADAPTERS.build({"name": name, **options}, 12, 16)


def test_tokens_of_another_width_are_refused() -> None:
    adapter = CTCAdapter(12, 16, hidden_dim=8, heads=2)
    with pytest.raises(ConfigError, match="embeddings of 16 values, and the decoder's tokens have 20"):
        adapter.attach(torch.arange(3), torch.randn(3, 20))
