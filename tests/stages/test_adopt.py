"""An adapter that begins with the weights of another model: which, when, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import WhisperModel

from toolkit.config import load_parts
from toolkit.errors import AssetError, CheckpointError
from toolkit.interfaces import ADAPTERS
from toolkit.stages.adopt import adopt_weights
from toolkit.types import Padded

load_parts()


def adapter_of(weights: str, **options: int) -> Any:
    torch.manual_seed(0)
    sizes = {"queries": 3, "layers": 1, "heads": 2, **options}
    return ADAPTERS.build({"name": "whisper_decoder_qformer", **sizes, "weights": weights}, 32, 8).eval()


@pytest.mark.parametrize("own", [True, False])
@torch.no_grad()
def test_the_adapter_is_the_decoder_of_the_whisper_that_is_named(own: bool, tiny_whisper: Path) -> None:
    adapter = adapter_of("encoder" if own else str(tiny_whisper))
    adopt_weights(adapter, {"name": "whisper", "model": str(tiny_whisper) if own else "elsewhere"})
    whisper: Any = WhisperModel.from_pretrained(tiny_whisper).eval()
    frames = torch.randn(1, 9, 32)
    expected = whisper.decoder(inputs_embeds=adapter.queries[None], encoder_hidden_states=frames).last_hidden_state
    torch.testing.assert_close(adapter(Padded.of([frames[0]])).values, adapter.project(expected), atol=1e-5, rtol=0)


def test_nothing_is_adopted_that_is_not_asked_for() -> None:
    encoder = {"name": "whisper", "model": "nowhere/at-all"}
    adapter, fresh = adapter_of(""), adapter_of("")
    adopt_weights(adapter, encoder)
    assert all(torch.equal(a, b) for a, b in zip(adapter.parameters(), fresh.parameters(), strict=True))
    adopt_weights(ADAPTERS.build({"name": "stack"}, 32, 8), encoder)


def test_sizes_that_disagree_are_named_with_the_model(tiny_whisper: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"{tiny_whisper} does not fit: .* 1 layers, and adapter.layers is 4"):
        adopt_weights(adapter_of("encoder", layers=4), {"name": "whisper", "model": str(tiny_whisper)})


def test_an_llm_is_no_whisper(tiny_llm: Path) -> None:
    with pytest.raises(CheckpointError, match="no Whisper decoder"):
        adopt_weights(adapter_of(str(tiny_llm)), {"name": "whisper", "model": "elsewhere"})


def test_pickled_weights_are_not_read(tiny_whisper: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny_whisper / "config.json").read_text())
    whisper: Any = WhisperModel.from_pretrained(tiny_whisper)
    torch.save(whisper.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        adopt_weights(adapter_of(str(tmp_path)), {"name": "whisper", "model": "elsewhere"})


def test_a_name_of_nothing_is_refused() -> None:
    with pytest.raises(AssetError, match="there is no such folder"):
        adopt_weights(adapter_of("./nowhere"), {"name": "joined"})
