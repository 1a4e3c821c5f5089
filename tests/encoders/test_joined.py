from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, Wav2Vec2FeatureExtractor, WavLMConfig

from toolkit.config import compose_config
from toolkit.encoders import joined, ssl, whisper
from toolkit.errors import ConfigError
from toolkit.interfaces import ENCODERS, Encoder
from toolkit.testing import check_encoder
from toolkit.types import Padded

assert joined, (ssl, whisper)  # they register by import


@pytest.fixture(scope="module")
def tiny_wavlm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A WavLM "base", with its group norm."""
    folder = tmp_path_factory.mktemp("models") / "wavlm"
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, vocab_size=8, initializer_range=0.2,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def pair(tiny_whisper: Path, tiny_wavlm: str) -> dict[str, Any]:
    return {
        "first": {"name": "whisper", "model": str(tiny_whisper), "window": "true_length"},
        "second": {"name": "ssl", "model": tiny_wavlm},
    }


class Steps(Encoder):
    """Says of each step which number it is, in frames of `samples` samples, at 16 kHz."""

    def __init__(self, *, samples: int = 320, rate: int = 16000, extra: int = 0) -> None:
        super().__init__()
        self.samples, self.extra = samples, extra
        self.output_dim, self.sampling_rate, self.frame_shift = 2, rate, samples / rate
        self.max_duration = samples / 10

    def forward(self, audio: Padded) -> Padded:
        rows = [torch.arange(1.0, n + 1)[:, None].repeat(1, 2) for n in self.output_lengths(audio.lengths).tolist()]
        return Padded.of(rows)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return -(-lengths // self.samples) + self.extra


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS._classes, "steps", Steps)


@pytest.mark.parametrize("norm", [True, False])
def test_joined_keeps_its_law(norm: bool, pair: dict[str, Any]) -> None:
    check_encoder("joined", norm=norm, **pair)


@pytest.mark.usefixtures("steps")
def test_joined_keeps_its_law_at_two_rates(pair: dict[str, Any]) -> None:
    check_encoder("joined", first={"name": "steps", "samples": 640}, second=pair["second"])


def test_each_half_is_its_encoder_normed(pair: dict[str, Any]) -> None:
    audio = Padded.of([0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (5000, 9000)])
    both = ENCODERS.build({"name": "joined", **pair}).eval()
    with torch.no_grad():
        rows = both(audio).unpad()
        ears = [ENCODERS.build(pair[key]).eval()(audio).unpad() for key in ("first", "second")]
    assert both.output_dim == 32 + 16
    for row, left, right in zip(rows, *ears, strict=True):
        # Whisper rounds up and WavLM down, so that the end of WavLM's half is padding.
        assert len(row) == len(left) > len(right)
        torch.testing.assert_close(row[:, :32], functional.layer_norm(left, (32,)), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(row[: len(right), 32:], functional.layer_norm(right, (16,)), atol=1e-5, rtol=1e-4)
        assert not bool(row[len(right) :, 32:].any())


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ({}, {"extra": 1}, [[1, 1], [2, 2], [3, 3], [0, 4]]),
        ({"samples": 640}, {}, [[1, 1], [1, 2], [2, 3]]),
        ({}, {"samples": 640, "extra": -1}, [[1, 1], [2, 1], [3, 0]]),
    ],
    ids=["the shorter is padded", "the slower is repeated and cut", "and padded"],
)
def test_frames_are_aligned(first: dict[str, int], second: dict[str, int], wanted: list[list[float]]) -> None:
    options = {"first": {"name": "steps", **first}, "second": {"name": "steps", **second}, "norm": False}
    both = ENCODERS.build({"name": "joined", **options})
    assert both.frame_shift == 0.02
    assert both.max_duration == 32
    frames = both(Padded.of([torch.zeros(960)]))
    assert frames.lengths.tolist() == [len(wanted)]
    assert frames.values[0, :, [0, 2]].tolist() == wanted


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"name": "steps", "rate": 8000, "samples": 160}, "these want 16000 Hz and 8000 Hz"),
        ({"name": "steps", "samples": 480}, "not 20 ms and 30 ms"),
        ({"samples": 480}, "encoder.second has no name"),
    ],
)
def test_what_cannot_be_joined_is_refused(second: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ENCODERS.build({"name": "joined", "first": {"name": "steps"}, "second": second})


OVERLAY = """# @package _global_
defaults:
  - override /encoder: joined
encoder:
  first: {name: whisper, model: a, taps: [1]}
  second: {name: ssl, model: b}
"""


def test_the_pair_comes_from_a_recipe_or_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "pair.yaml").write_text(OVERLAY)
    monkeypatch.setenv("TOOLKIT_ROOT", str(tmp_path))
    by_recipe = compose_config(["recipes=pair", "encoder.second.model=c"])
    by_hand = compose_config(
        ["encoder=joined", "+encoder.first={name:whisper,model:a,taps:[1]}", "+encoder.second={name:ssl,model:c}"]
    )
    assert by_recipe.encoder == by_hand.encoder
    assert by_recipe.encoder["first"] == {"name": "whisper", "model": "a", "taps": [1]}
    assert by_recipe.encoder["second"] == {"name": "ssl", "model": "c"}
