import math

import pytest
import torch

from toolkit.errors import ConfigError
from toolkit.interfaces import ENCODERS, Padded
from toolkit.registry import load_plugins
from toolkit.testing import check_encoder


@pytest.fixture(autouse=True)
def _loaded() -> None:
    assert "toolkit_fbank" in load_plugins(), "not installed: pip install -e plugins/fbank"


@pytest.mark.parametrize(("mels", "stack"), [(80, 4), (20, 1), (1, 8)])
def test_fbank_keeps_the_law_of_encoders(mels: int, stack: int) -> None:
    check_encoder("fbank", mels=mels, stack=stack)


def test_lengths_are_exact_for_every_number_of_samples() -> None:
    encoder = ENCODERS.build({"name": "fbank"})
    for samples in (1, 159, 639, 640, 641, 1280, 16000):
        frames = encoder(Padded.of([torch.ones(samples)]))
        assert frames.values.shape[1] == int(frames.lengths) == int(encoder.output_lengths(torch.tensor(samples)))
        assert int(frames.lengths) == math.ceil(samples / 640)


def test_what_stands_in_the_padding_means_nothing() -> None:
    encoder = ENCODERS.build({"name": "fbank"})
    samples = torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([3000, 1000])
    dirty = samples.clone()
    dirty[1, 1000:] = torch.nan
    clean, heard = encoder(Padded(samples, lengths)), encoder(Padded(dirty, lengths))
    assert all(torch.equal(a, b) for a, b in zip(clean.unpad(), heard.unpad(), strict=True))


def test_a_higher_tone_is_heard_in_a_higher_band() -> None:
    encoder = ENCODERS.build({"name": "fbank", "stack": 1})
    seconds = torch.arange(8000) / 16000
    tones = [torch.sin(2 * math.pi * hertz * seconds) for hertz in (200, 400, 1000, 3000, 7000)]
    loudest = [int(row[10].argmax()) for row in encoder(Padded.of(tones)).unpad()]
    assert loudest == sorted(set(loudest))


def test_silence_is_finite_and_louder_is_more() -> None:
    encoder = ENCODERS.build({"name": "fbank"})
    noise = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    silent, soft, loud = encoder(Padded.of([0 * noise, 0.01 * noise, noise])).unpad()
    assert bool((silent == -6).all())
    assert bool((soft < loud).all())


@pytest.mark.parametrize("options", [{"mels": 0}, {"stack": 0}, {"mels": 256}])
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.mels"):
        ENCODERS.build({"name": "fbank", **options})
