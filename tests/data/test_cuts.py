"""Cuts: what is written is what is read, whole or not at all."""

from __future__ import annotations

import errno
import gzip
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from toolkit.data.audio import AudioError
from toolkit.data.cuts import (
    example_of,
    load_cut_audio,
    make_cut,
    read_cuts,
    replacing,
    write_cuts,
)
from toolkit.errors import DataError
from toolkit.types import Example, Word


def a_cut(name: str = "u", audio: Path = Path("/x.wav"), **changes: Any) -> Any:
    given: dict[str, Any] = {
        "sampling_rate": 16000, "num_samples": 24000, "speaker": "s", "custom": {"kind": "fact"},
        "words": [Word("it", 0.25, 0.5), Word("is", 0.5, 1.0)],
    }  # fmt: skip
    return make_cut(name, audio, "It is.", **{**given, **changes})


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "train" / "cuts.jsonl.gz"
    cuts = [a_cut("u1"), a_cut("ü2", words=(), start=0.5, duration=0.75, recording="r")]
    write_cuts(path, cuts)
    assert read_cuts(path) == cuts
    assert [file.name for file in path.parent.iterdir()] == ["cuts.jsonl.gz"]


def test_lhotse_reads_them_too(tmp_path: Path) -> None:
    from lhotse import CutSet

    write_cuts(tmp_path / "cuts.jsonl.gz", [a_cut()])
    [cut] = CutSet.from_file(tmp_path / "cuts.jsonl.gz")
    assert cut.supervisions[0].text == "It is."
    assert cut.supervisions[0].custom == {"kind": "fact"}


def test_the_same_cuts_are_the_same_bytes(tmp_path: Path) -> None:
    write_cuts(tmp_path / "a.gz", [a_cut()])
    time.sleep(1.1)  # a time in the header would differ now
    write_cuts(tmp_path / "b.gz", [a_cut()])
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_example() -> None:
    assert example_of(a_cut()) == Example(
        id="u", duration=1.5, transcript="It is.", words=(Word("It", 0.25, 0.5), Word("is.", 0.5, 1.0)),
        metadata={"kind": "fact"},
    )  # fmt: skip
    assert example_of(a_cut(words=[Word("other", 0.0, 1.0)])).words == ()


def test_many_are_read_whole_and_in_their_order(tmp_path: Path) -> None:
    words = [Word("word", i / 10, (i + 1) / 10) for i in range(15)]
    cuts = [a_cut(f"u{i}", words=words) for i in range(2500)]
    write_cuts(tmp_path / "cuts.jsonl.gz", iter(cuts))
    assert read_cuts(tmp_path / "cuts.jsonl.gz") == cuts


def test_missing_and_damaged(tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    with pytest.raises(DataError, match="does not exist: run `toolkit prepare` first"):
        read_cuts(path)
    write_cuts(path, [a_cut(f"u{i}") for i in range(50)])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="is damaged"):
        read_cuts(path)
    path.write_bytes(gzip.compress(b'{"id": 1}\n'))
    with pytest.raises(DataError, match="is damaged"):
        read_cuts(path)


def test_foreign_cuts_with_several_supervisions(tmp_path: Path) -> None:
    cut = a_cut()
    cut.supervisions.append(cut.supervisions[0])
    write_cuts(tmp_path / "cuts.jsonl.gz", [cut])
    with pytest.raises(DataError, match="cut 'u' has 2 supervisions"):
        read_cuts(tmp_path / "cuts.jsonl.gz")


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.linspace(-0.5, 0.5, 24000, dtype=np.float32), 16000, subtype="FLOAT")
    return tmp_path / "a.wav"


def test_audio_of_a_whole_file_and_of_a_piece(ramp: Path) -> None:
    whole = load_cut_audio(a_cut(audio=ramp), 16000)
    assert whole.shape == (24000,)
    assert whole.dtype == torch.float32
    piece = load_cut_audio(a_cut(audio=ramp, recording="r", start=0.25, duration=0.5), 16000)
    torch.testing.assert_close(piece, whole[4000:12000])
    assert load_cut_audio(a_cut(audio=ramp), 8000).shape == (12000,)


def test_audio_that_has_changed_since(ramp: Path) -> None:
    cut = a_cut(audio=ramp)
    soundfile.write(ramp, np.full(12000, 0.5, np.float32), 16000)
    with pytest.raises(AudioError, match=r"utterance 'u': .* has changed since it was prepared"):
        load_cut_audio(cut, 16000)
    ramp.unlink()
    with pytest.raises(AudioError, match="there is no audio file"):
        load_cut_audio(cut, 16000)


def old_file(folder: Path) -> Path:
    write_cuts(folder / "cuts.jsonl.gz", [a_cut("old")])
    return folder / "cuts.jsonl.gz"


def many() -> Iterator[Any]:
    return (a_cut(f"{np.random.default_rng(i).bytes(40).hex()}") for i in range(500))


def only_the_old(path: Path) -> bool:
    return [file.name for file in path.parent.iterdir()] == [path.name] and read_cuts(path)[0].id == "old"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """/dev/full is the kernel's own full disk: writing there fails with ENOSPC."""
    path = old_file(tmp_path)
    (tmp_path / f"cuts.jsonl.gz.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"No space left on device. What stood there before is untouched") as caught:
        write_cuts(path, many())
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert only_the_old(path)


def test_a_quota_leaves_the_old_file(tmp_path: Path) -> None:
    path = old_file(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(DataError, match="File too large"):
            write_cuts(path, many())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert only_the_old(path)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_the_old_file(tmp_path: Path, interruption: type[BaseException]) -> None:
    path = old_file(tmp_path)

    def cuts() -> Iterator[Any]:
        yield a_cut()
        raise interruption

    with pytest.raises(interruption):
        write_cuts(path, cuts())
    assert only_the_old(path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"), replacing(tmp_path / "file" / "x"):
        pass
