from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import WhisperForConditionalGeneration

from toolkit.config import compose_config
from toolkit.data.fingerprint import fingerprint
from toolkit.data.units import encoder_mark, write_units
from toolkit.encoders import joined, ssl, units, whisper
from toolkit.errors import ConfigError, DataError
from toolkit.interfaces import ENCODERS
from toolkit.stages.paths import _elsewhere
from toolkit.testing import check_encoder
from toolkit.testing.tiny import tiny_whisper as write_whisper
from toolkit.types import Padded

assert joined, (ssl, units, whisper)  # they register by import


def noise(samples: int) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(samples))


def frames_of(of: dict[str, Any], audio: Padded) -> Padded:
    with torch.no_grad():
        return ENCODERS.build(of).eval()(audio)  # type: ignore[no-any-return]


def some_units(path: Path, of: dict[str, Any], count: int = 7) -> str:
    """Write a file of `count` units: frames of noise."""
    frames = frames_of(of, Padded.of([noise(30000)])).values[0]
    write_units(path, frames[:: len(frames) // count][:count], encoder_mark(of, ENCODERS.build(of)), {})
    return str(path)


@pytest.fixture
def of(tiny_whisper: Path) -> dict[str, Any]:
    return {"name": "whisper", "model": str(tiny_whisper), "window": "true_length", "taps": [-1]}


@pytest.fixture
def file(of: dict[str, Any], tmp_path: Path) -> str:
    return some_units(tmp_path / "units.safetensors", of)


def build(**options: Any) -> Any:
    return ENCODERS.build({"name": "units", **options}).eval()


@pytest.mark.parametrize("embedding", ["centroid", "one_hot"])
def test_units_keep_their_law(embedding: str, of: dict[str, Any], file: str) -> None:
    check_encoder("units", of=of, centroids=file, embedding=embedding)


def test_units_keep_the_law_beside_another_encoder(of: dict[str, Any], file: str) -> None:
    check_encoder("joined", first={"name": "units", "of": of, "centroids": file}, second=of)


def test_a_frame_is_said_by_the_nearest_centroid(of: dict[str, Any], file: str) -> None:
    audio = Padded.of([noise(9000), noise(23456)])
    encoder, hot = build(of=of, centroids=file), build(of=of, centroids=file, embedding="one_hot")
    with torch.no_grad():
        found, said, flags = encoder.units(audio).unpad(), encoder(audio).unpad(), hot(audio).unpad()
    assert (encoder.output_dim, hot.output_dim, encoder.frame_shift, encoder.max_duration) == (32, 7, 0.02, 30.0)
    for row, ids, values, flag in zip(frames_of(of, audio).unpad(), found, said, flags, strict=True):
        distances = (row[:, None] - encoder.centroids[None]).square().sum(-1)
        assert ids.tolist() == distances.argmin(1).tolist()
        assert torch.equal(values, encoder.centroids[ids])
        assert torch.equal(flag, torch.eye(7)[ids])
    assert len(torch.cat(found).unique()) > 2


def test_lengths_are_exact_from_one_sample_on(of: dict[str, Any], file: str) -> None:
    encoder = build(of=of, centroids=file)
    few = [1, 2, 319, 320, 321, 640, 3000]
    with torch.no_grad():
        frames = encoder(Padded.of([noise(n) for n in few]))
    assert frames.lengths.tolist() == encoder.output_lengths(torch.tensor(few)).tolist() == [1, 1, 1, 1, 2, 2, 10]


def test_units_of_other_frames_are_refused(of: dict[str, Any], file: str, tmp_path: Path) -> None:
    others = [{**of, "taps": [-2]}, {**of, "window": "padded"}]
    folder = write_whisper(tmp_path / "same")  # the very same weights elsewhere
    assert build(of={**of, "model": str(folder)}, centroids=file).output_dim == 32
    changed: Any = WhisperForConditionalGeneration.from_pretrained(folder)
    with torch.no_grad():
        changed.model.encoder.layers[0].fc1.weight.mul_(1.5)
    changed.save_pretrained(tmp_path / "changed")
    for other in (*others, {**of, "model": str(tmp_path / "changed")}):
        with pytest.raises(ConfigError, match=r"holds units of another encoder.*run `toolkit units`"):
            build(of=other, centroids=file)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"embedding": "learned"}, "one of centroid, one_hot, not 'learned'"),
        ({"of": {"model": "a"}}, "encoder.of has no name"),
        ({"centroids": "nowhere"}, "there is no nowhere; `toolkit units`"),
    ],
)
def test_what_cannot_be_is_told_before_a_model_is_loaded(wrong: dict[str, Any], words: str, file: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(**{"of": {"name": "whisper", "model": "no/such-model"}, "centroids": file, **wrong})


def test_a_file_of_something_else_is_named(of: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tensors")
    save_file({"weights": torch.zeros(2)}, tmp_path / "other")
    for name in ("text", "other"):
        with pytest.raises(DataError, match=f"{name} is damaged or no file of units"):
            build(of=of, centroids=str(tmp_path / name))


def test_a_fingerprint_sees_every_value_of_the_centroids(of: dict[str, Any], file: str, tmp_path: Path) -> None:
    encoder = build(of=of, centroids=file)
    centroids = encoder.centroids.clone()
    centroids[3, 17] += 1e-4  # less than the rounding of a fingerprint, and between the values it looks at
    write_units(tmp_path / "moved", centroids, encoder_mark(of, encoder.of), {})
    moved = build(of=of, centroids=str(tmp_path / "moved"))
    assert fingerprint({}, moved) != fingerprint({}, encoder)
    del moved.digest, encoder.digest
    assert fingerprint({}, moved) == fingerprint({}, encoder)
    write_units(tmp_path / "copy", encoder.centroids, encoder_mark(of, encoder.of), {})
    assert fingerprint({}, build(of=of, centroids=str(tmp_path / "copy"))) == fingerprint(
        {}, build(of=of, centroids=file)
    )


def test_options_come_from_the_command_line_and_places_may_change() -> None:
    given = ["encoder=units", "+encoder.of={name:ssl,model:a,taps:[6]}", "encoder.centroids=b"]
    saved = compose_config(given).encoder
    assert saved == {
        "name": "units", "of": {"name": "ssl", "model": "a", "taps": [6]}, "centroids": "b", "embedding": "centroid",
    }  # fmt: skip
    now = {"name": "units", "of": {"name": "ssl", "model": "c", "taps": [1]}, "centroids": "d", "embedding": "one_hot"}
    moved = _elsewhere(saved, now, ("model", "centroids"))
    assert moved == {**saved, "of": {**saved["of"], "model": "c"}, "centroids": "d"}
