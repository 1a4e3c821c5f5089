"""Cached frames that are not what the encoder makes are refused, by whatever they came to be so."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from toolkit.config import Config
from toolkit.data.features import FrameCache
from toolkit.encoders.whisper import WhisperEncoder
from toolkit.errors import DataError, StaleCacheError
from toolkit.models.build import build_encoder
from toolkit.stages import encode, train
from toolkit.stages.encode import frame_cache, sample_store
from toolkit.stages.verify import verify_frames
from toolkit.types import Padded

ConfigOf = Callable[..., Config]


@pytest.fixture
def config(config_of: ConfigOf, tmp_path: Path) -> Config:
    """A configuration on data of its own, that may be damaged."""
    given = config_of(tmp_path / "exp")
    copytree(given.data_dir, tmp_path / "data")
    return config_of(tmp_path / "exp", f"data_dir={tmp_path / 'data'}")


def change(config: Config, how: Callable[[Tensor], Tensor]) -> Path:
    """Rewrite every frame of train; returns the folder."""
    cache = frame_cache(config, build_encoder(config.encoder), "train")
    for path in cache.folder.glob("*.safetensors"):
        save_file({name: how(frames).contiguous() for name, frames in load_file(path).items()}, path)
    return cache.folder


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (
            lambda x: x + 1,
            r"are not what this encoder makes of its audio: \d+% of their norm.*toolkit 0.*toolkit encode",
        ),
        (lambda x: x[:-1], "another length or width"),
        (lambda x: x / 0, "not finite.*toolkit encode"),
        (lambda x: x.float(), "F32 and not F16"),
    ],
)
def test_frames_that_were_changed_are_refused(config: Config, how: Callable[[Tensor], Tensor], says: str) -> None:
    change(config, how)
    for stage in (encode, train):
        with pytest.raises((StaleCacheError, DataError), match=f"(?s){says}"):
            stage.run(config)
    assert not (Path(config.exp_dir) / "checkpoint" / "done").exists()


def test_a_damaged_shard_names_itself_and_can_be_made_again(config: Config) -> None:
    folder = change(config, lambda x: x)
    shard = next(folder.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(StaleCacheError, match=f"{shard.name} are damaged.*remove.*toolkit encode"):
        encode.run(config)
    shard.unlink()
    assert encode.run(config)["train"] == 10


def test_frames_as_they_were_made_are_used_and_verified_only_if_wanted(config: Config, config_of: ConfigOf) -> None:
    encode.run(config)
    change(config, lambda x: (x.float() * (1 + 1e-3 * torch.randn(x.shape))).half())  # other kernels
    encode.run(config)
    change(config, lambda x: x + 1)
    trusting = config_of(Path(config.exp_dir), f"data_dir={config.data_dir}", "encode.verify=0")
    encode.run(trusting)


class Restless(WhisperEncoder):
    """Distorts what it hears, another way each time."""

    def forward(self, audio: Padded) -> Padded:
        """Encode with noise."""
        frames = super().forward(audio)
        return Padded(frames.values + torch.randn_like(frames.values), frames.lengths)


def test_an_encoder_that_distorts_has_no_frames_to_keep(config: Config, tiny_whisper: Path) -> None:
    encoder = Restless(model=str(tiny_whisper), window="true_length").eval()
    cache = frame_cache(config, build_encoder(config.encoder), "train")
    with pytest.raises(StaleCacheError, match=r"other frames of '.*' each time.*encode\.copies"):
        verify_frames(cache, encoder, sample_store(config, encoder, "train"), 1)


def test_frames_without_their_audio_are_used_and_it_is_said(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(store: object, name: str) -> Tensor:
        raise DataError(f"no audio of {name}")

    encoder = build_encoder(config.encoder)
    audio = sample_store(config, encoder, "train")
    monkeypatch.setattr(type(audio), "__getitem__", gone)
    verify_frames(frame_cache(config, encoder, "train"), encoder, audio, 2)
    assert "are not verified: no audio of utt" in " ".join(capsys.readouterr().err.split())


def test_frames_too_large_for_fp16_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'u'.*fp16.*1e\+05"):
        list(FrameCache(tmp_path, "k").write([("u", torch.full((2, 3), 1e5))], 4, {}))
