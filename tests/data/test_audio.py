"""Audio: every way in which a file can be bad has its own message, and the good ones come out right."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from toolkit.data import audio
from toolkit.data.audio import AudioError, audio_info, load_audio, read_audio


def tone(seconds: float = 1.0, rate: int = 16000) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).uniform(0.5, 1, round(seconds * rate))  # so that codecs cannot predict it
    return (0.4 * np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 220 / rate) * noise).astype(np.float32)


def write(path: Path, samples: NDArray[np.float32], rate: int = 16000) -> Path:
    if path.suffix == ".opus":
        soundfile.write(path, samples, rate, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, samples, rate)
    return path


def cut_short(path: Path, share: float = 0.6) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus", ".ogg"])
def test_formats_keep_length_and_sound(tmp_path: Path, suffix: str) -> None:
    loaded = load_audio(write(tmp_path / f"a{suffix}", tone()), 16000).numpy()
    assert loaded.shape == (16000,)
    assert loaded.dtype == np.float32
    correlation = np.corrcoef(loaded, tone())[0, 1]
    assert correlation > 0.9


def test_a_piece_is_the_same_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", tone(2.0))
    whole, rate = read_audio(path)
    piece, _ = read_audio(path, start=0.5, duration=0.75)
    assert rate == 16000
    np.testing.assert_array_equal(piece, whole[8000:20000])


def test_channels_are_averaged_and_rates_converted_with_one_line_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audio._said.clear()
    stereo = np.stack([tone(rate=8000), np.zeros(8000, np.float32)], axis=1)
    paths = [write(tmp_path / f"{i}.wav", stereo, 8000) for i in range(3)]
    loaded = [load_audio(path, 16000).numpy() for path in paths]
    assert {each.shape for each in loaded} == {(16000,)}
    inner = slice(2000, -2000)
    upsampled = load_audio(write(tmp_path / "mono.wav", tone(rate=8000), 8000), 16000).numpy()
    np.testing.assert_allclose(loaded[0][inner], upsampled[inner] / 2, atol=1e-4)
    messages = [record.message for record in caplog.records]
    assert len(messages) == 2
    assert "2 channels" in messages[0]
    assert str(paths[0]) in messages[0]
    assert "8000 Hz is resampled to 16000 Hz" in messages[1]


def test_resampling_keeps_a_tone(tmp_path: Path) -> None:
    seconds = np.arange(44100) / 44100
    path = write(tmp_path / "a.wav", np.sin(2 * np.pi * 440 * seconds).astype(np.float32) * 0.5, 44100)
    loaded = load_audio(path, 16000).numpy()
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(loaded[1000:-1000], expected[1000:-1000], atol=5e-3)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"utterance 'u1': there is no audio file .*gone.wav") as caught:
        load_audio(tmp_path / "gone.wav", 16000, name="u1")
    assert caught.value.reason == "missing audio"


def test_a_folder_is_no_audio(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no audio file"):
        load_audio(tmp_path, 16000)


def test_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.flac").touch()
    with pytest.raises(AudioError, match="is an empty file") as caught:
        load_audio(tmp_path / "a.flac", 16000)
    assert caught.value.reason == "empty audio"


def test_no_samples(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="holds no samples") as caught:
        load_audio(write(tmp_path / "a.wav", np.zeros(0, np.float32)), 16000)
    assert caught.value.reason == "empty audio"


def test_not_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("<html>404 not found</html>")
    with pytest.raises(AudioError, match=r"utterance 'u': cannot decode .*a.wav .*convert it to WAV") as caught:
        load_audio(tmp_path / "a.wav", 16000, name="u")
    assert caught.value.reason == "unreadable audio"
    with pytest.raises(AudioError, match="cannot read the header"):
        audio_info(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", [".wav", ".opus", ".ogg"])
def test_truncated_where_the_decoder_says_nothing(tmp_path: Path, suffix: str) -> None:
    path = cut_short(write(tmp_path / f"a{suffix}", tone(3.0)))
    assert len(soundfile.read(path)[0]) > 0  # libsndfile does not notice
    with pytest.raises(AudioError, match="is truncated: it holds") as caught:
        load_audio(path, 16000, name="u")
    assert caught.value.reason == "truncated audio"


def test_truncated_flac(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot decode"):
        load_audio(cut_short(write(tmp_path / "a.flac", tone(3.0))), 16000)


def test_a_piece_past_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1.0))
    assert load_audio(path, 16000, start=0.5, duration=0.52).shape == (8000,)  # rounding in a manifest
    with pytest.raises(AudioError, match=r"truncated: it holds 0.50 s from 0.50 s on"):
        load_audio(path, 16000, start=0.5, duration=1.0)
    with pytest.raises(AudioError, match=r"truncated: it holds 0.00 s from 7.00 s on"):
        load_audio(path, 16000, start=7.0, duration=1.0)


def test_a_wav_that_was_written_to_a_pipe_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone())
    content = bytearray(path.read_bytes())
    content[content.index(b"data") + 4 : content.index(b"data") + 8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert load_audio(path, 16000).shape == (16000,)


def test_silent(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is silent") as caught:
        load_audio(write(tmp_path / "a.wav", np.full(16000, 3e-5, np.float32)), 16000)
    assert caught.value.reason == "silent audio"


def test_not_a_number(tmp_path: Path) -> None:
    samples = tone()
    samples[5] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="not numbers"):
        load_audio(tmp_path / "a.wav", 16000)


def test_the_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(AudioError("what", "silent audio")))
    assert (str(error), error.reason) == ("what", "silent audio")
