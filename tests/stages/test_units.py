"""Units: fitted to the training speech, kept, refused where they do not belong, and trained on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit.cli import main
from toolkit.config import Config, compose_config, load_config
from toolkit.data import kmeans
from toolkit.data.features import FrameCache
from toolkit.data.kmeans import nearest
from toolkit.data.units import read_units, write_units
from toolkit.errors import CheckpointError, ConfigError, DataError, StaleCacheError
from toolkit.models.build import build_encoder
from toolkit.stages import decode, encode, train, units
from toolkit.stages.encode import frame_cache
from toolkit.stages.hypotheses import read_rows

Make = Callable[..., Config]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("units")


@pytest.fixture(scope="module")
def make(config_of: Callable[..., Config], folder: Path) -> Make:
    """Return a function (name of the file, overrides...) -> units of the tiny Whisper's last block, on the noise."""
    known = config_of(folder / "exp")

    def configure(name: str, *more: str) -> Config:
        return compose_config(
            [
                "recipes=mtbi", f"exp_dir={folder / 'exp'}", f"data_dir={known.data_dir}", "encoder=units",
                f"+encoder.of={{name:whisper,model:'{known.encoder['model']}',window:true_length,taps:[-1]}}",
                f"encoder.centroids={folder / name}", "units.count=9", "units.frames=200", "units.iterations=8",
                f"decoder.model={known.decoder['model']}", "adapter=stack", "adapter.hidden_dim=16",
                "imitate.max_new_tokens=5", "train.steps=4", "train.batch_size=4", "train.validate_every=2",
                "decode.systems=[speech,deaf]", *more,
            ]
        )  # fmt: skip

    return configure


@pytest.fixture(scope="module")
def fitted(make: Make, folder: Path) -> Config:
    config = make("units.safetensors")
    assert units.run(config) == folder / "units.safetensors"
    return config


def with_encoder(config: Config, encoder: dict[str, Any]) -> Config:
    return replace(config, encoder=encoder)


def same_units(left: Path, right: Path) -> bool:
    """Compare what is in two files; their bytes depend on the order of what is said about it."""
    (a, about), (b, and_about) = read_units(left), read_units(right)
    return torch.equal(a, b) and about == and_about


def test_centroids_are_means_of_the_frames_drawn(fitted: Config) -> None:
    centroids, about = read_units(Path(fitted.encoder["centroids"]))
    assert centroids.shape == (9, 32)
    inner = build_encoder(fitted.encoder["of"])
    fitted_on = int(about["frames"])
    assert 200 <= fitted_on < 200 + 110  # whole utterances, until there are enough; the longest has 95 frames
    of = with_encoder(fitted, fitted.encoder["of"])
    cache = frame_cache(of, inner, "train")
    assert 0 < len(cache) < 10  # and only those are encoded
    frames = torch.cat([cache[name] for name in cache._where])
    assert len(frames) == fitted_on
    found, distances = nearest(frames, centroids)
    assert float(distances.mean()) == pytest.approx(float(about["mean_squared_distance"]), rel=1e-4)
    assert float(distances.mean()) < float((frames - frames.mean(0)).square().sum(1).mean())
    assert len(found.unique()) == 9


def test_the_same_settings_give_the_same_units_and_keep_the_file(
    fitted: Config, make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(fitted.encoder["centroids"])
    again = make("again.safetensors")
    units.run(again)
    assert same_units(folder / "again.safetensors", path)
    monkeypatch.setattr(kmeans, "_ROWS", 64)  # nor does it matter how many are looked at together
    units.run(make("parts.safetensors"))
    torch.testing.assert_close(read_units(folder / "parts.safetensors")[0], read_units(path)[0])
    before = path.stat().st_mtime_ns
    assert units.run(fitted) == path
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("more", ["units.count=8", "seed=2", "units.iterations=3"])
def test_units_of_other_settings_are_not_written_over(more: str, fitted: Config, make: Make, folder: Path) -> None:
    before = Path(fitted.encoder["centroids"]).read_bytes()
    with pytest.raises(ConfigError, match="fitted with other settings"):
        units.run(make("units.safetensors", more))
    assert Path(fitted.encoder["centroids"]).read_bytes() == before


def test_an_interrupted_fit_goes_on_with_the_frames_it_has(
    make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make("late.safetensors", "units.frames=100000", "encode.shard_size=2")
    written: list[str] = []
    save = FrameCache._save

    def interrupted(self: FrameCache, shard: dict[str, torch.Tensor]) -> None:
        if written:
            raise KeyboardInterrupt
        written.extend(shard)
        save(self, shard)

    monkeypatch.setattr(FrameCache, "_save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        units.run(config)
    assert not (folder / "late.safetensors").exists()
    monkeypatch.setattr(FrameCache, "_save", save)
    of = with_encoder(config, config.encoder["of"])
    assert set(written) <= set(frame_cache(of, build_encoder(of.encoder), "train")._where)
    units.run(config)
    assert len(frame_cache(of, build_encoder(of.encoder), "train")) == 10


def test_a_model_is_trained_on_units_and_answers(fitted: Config, make: Make, folder: Path) -> None:
    encode.run(fitted)
    train.run(fitted)
    decode.run(fitted)
    assert len(read_rows(folder / "exp/decode/test/speech.jsonl")) == 2 * 12
    encoder = build_encoder(fitted.encoder)
    frames = frame_cache(fitted, encoder, "test")
    name = next(iter(frames._where))
    centroids = read_units(Path(fitted.encoder["centroids"]))[0]
    assert bool((frames[name][:, None] == centroids.half().float()[None]).all(-1).any(-1).all())
    # Where the centroids lie is no part of what they are.
    moved = folder / "elsewhere.safetensors"
    moved.write_bytes(Path(fitted.encoder["centroids"]).read_bytes())
    there = with_encoder(fitted, {**fitted.encoder, "centroids": str(moved)})
    assert frame_cache(there, build_encoder(there.encoder), "test").folder == frames.folder
    assert load_config(folder / "exp/checkpoint/config.yaml").encoder == fitted.encoder


def test_stale_units_are_refused_by_the_cache_and_the_checkpoint(fitted: Config, make: Make, folder: Path) -> None:
    centroids, about = read_units(Path(fitted.encoder["centroids"]))
    centroids[4, 5] += 1e-5
    write_units(folder / "stale.safetensors", centroids, about["encoder"], {})
    stale = with_encoder(fitted, {**fitted.encoder, "centroids": str(folder / "stale.safetensors")})
    encode.run(fitted)
    cache = frame_cache(stale, build_encoder(stale.encoder), "train")
    with pytest.raises(StaleCacheError, match="Run `toolkit encode`"):
        cache["utt00"]
    train.run(fitted)
    with pytest.raises(CheckpointError, match="trained with another encoder"):
        decode.run(stale)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["units.frames=8"], "no fewer than units.count"),
        (["units.count=0"], "must be 1 or more"),
        (["encoder.centroids=???"], "encoder.centroids is not set"),
    ],
)
def test_what_cannot_be_fitted_says_why(more: list[str], words: str, make: Make, folder: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        units.run(make("no.safetensors", *more))


def test_other_encoders_and_missing_speech_are_told(
    config_of: Callable[..., Config], make: Make, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="not of encoder=whisper: add encoder=units"):
        units.run(config_of(tmp_path))
    with pytest.raises(DataError, match="run the prepare stage first"):
        units.run(make("no.safetensors", f"data_dir={tmp_path}"))
    with pytest.raises(DataError, match="too few for"):
        units.run(make("no.safetensors", "units.count=5000", "units.frames=5000"))
    config = make("no.safetensors")
    with pytest.raises(ConfigError, match="has no name"):
        units.run(with_encoder(config, {**config.encoder, "of": "???"}))


def test_the_command_fits_units(fitted: Config, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = fitted.encoder["of"]
    status = main(
        [
            "units", f"data_dir={fitted.data_dir}", "exp_dir=x", "encoder=units",
            f"+encoder.of={{name:whisper,model:'{of['model']}',window:true_length,taps:[-1]}}",
            f"encoder.centroids={folder / 'cli.safetensors'}", "units.count=9", "units.frames=200",
            "units.iterations=8",
        ]
    )  # fmt: skip
    assert status == 0
    assert same_units(folder / "cli.safetensors", Path(fitted.encoder["centroids"]))
