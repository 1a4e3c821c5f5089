from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperModel

from toolkit.config import compose_config
from toolkit.encoders import whisper
from toolkit.errors import ConfigError
from toolkit.interfaces import ENCODERS
from toolkit.testing import check_encoder
from toolkit.types import Padded

assert whisper  # it registers by import


def noise(samples: int) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(samples))


def build(folder: Path, **options: Any) -> Any:
    return ENCODERS.build({"name": "whisper", "model": str(folder), **options}).eval()


@pytest.fixture(scope="module")
def large_bands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper with the 128 mel bands of large-v3 and three blocks."""
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=100, num_mel_bins=128, d_model=16, encoder_layers=3, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        pad_token_id=1, bos_token_id=1, eos_token_id=1, decoder_start_token_id=2, init_std=0.1,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "large"
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("window", ["padded", "true_length"])
def test_tapped_whisper_keeps_its_law(window: str, tiny_whisper: Path) -> None:
    check_encoder("whisper", model=str(tiny_whisper), window=window, taps=[1, 0])


def test_whisper_of_128_bands_keeps_its_law(large_bands: Path) -> None:
    check_encoder("whisper", model=str(large_bands), window="true_length")


def test_frames_are_those_of_transformers_in_the_order_given(large_bands: Path) -> None:
    rows = [noise(8000), noise(23456)]
    model, extract = WhisperModel.from_pretrained(large_bands).encoder.eval(), WhisperFeatureExtractor(feature_size=128)
    features = extract([row.numpy() for row in rows], sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        theirs = model(features, output_hidden_states=True)
        last, taps = build(large_bands)(Padded.of(rows)), build(large_bands, taps=[1, 0])(Padded.of(rows))
        # After the last block there is the norm for transformers, and not for a tap.
        final = build(large_bands, taps=[2])(Padded.of(rows)).values
        final = model.layer_norm(final)
    assert taps.values.shape[2] == 32
    for row, length in enumerate(last.lengths.tolist()):
        end = theirs.last_hidden_state[row, :length]
        torch.testing.assert_close(last.values[row, :length], end, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(final[row, :length], end, atol=1e-4, rtol=1e-4)
        states = torch.cat([theirs.hidden_states[k][row, :length] for k in (2, 1)], dim=-1)
        torch.testing.assert_close(taps.values[row, :length], states, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("window", ["padded", "true_length"])
def test_no_taps_is_the_last_block_with_the_norm(window: str, tiny_whisper: Path) -> None:
    plain, last = build(tiny_whisper, window=window), build(tiny_whisper, window=window, taps=[1])
    audio = Padded.of([noise(8000)])
    with torch.no_grad():
        torch.testing.assert_close(
            last.whisper.layer_norm(last(audio).values), plain(audio).values, atol=1e-5, rtol=1e-4
        )
    assert plain.output_dim == last.output_dim == 32


def test_taps_outside_the_model_are_refused(tiny_whisper: Path) -> None:
    with pytest.raises(ConfigError, match=r"has 2 layers, are 0 to 1 or, from the last, -1 to -2; not \[2, -3\]"):
        build(tiny_whisper, taps=[2, 0, -1, -3])


def test_negative_taps_count_from_the_last(large_bands: Path) -> None:
    audio = Padded.of([noise(8000)])
    with torch.no_grad():
        relative, absolute = build(large_bands, taps=[-1, -3, 1]), build(large_bands, taps=[2, 0, 1])
        assert torch.equal(relative(audio).values, absolute(audio).values)


@pytest.mark.parametrize("window", ["padded", "true_length"])
def test_the_number_of_mel_bands_is_the_models_own(window: str, large_bands: Path, tiny_whisper: Path) -> None:
    check_encoder("whisper", model=str(large_bands), window=window, taps=[-1])
    for folder, bands in ((large_bands, 128), (tiny_whisper, 16)):
        encoder = build(folder, window=window)
        assert encoder.whisper.conv1.in_channels == encoder.filters.shape[1] == bands
        assert encoder._mel(noise(4000)[None], 100).shape == (1, bands, 100)


def test_taps_come_from_the_command_line() -> None:
    config = compose_config(["encoder.model=somewhere", "encoder.taps=[2,5,8,11]"])
    assert config.encoder["taps"] == [2, 5, 8, 11]
    assert compose_config(["encoder.model=somewhere", "encoder.taps=[-1,-2]"]).encoder["taps"] == [-1, -2]
    assert list(compose_config(["encoder.model=somewhere"]).encoder["taps"]) == []
