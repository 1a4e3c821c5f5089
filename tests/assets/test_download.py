"""How far a download is, asked while pip makes and removes folders; and what it leaves of the process."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from toolkit.assets.download import bytes_under


def test_wheels_below_a_folder_are_counted(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "one.whl").write_bytes(b"123")
    (tmp_path / "deep" / "er" / "two.whl").write_bytes(b"4567")
    (tmp_path / "deep" / "log.txt").write_bytes(b"not a wheel")
    assert bytes_under(tmp_path) == 7
    assert bytes_under(tmp_path / "gone") == 0


def test_folders_may_vanish_while_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "kept.whl").write_bytes(b"123")
    done = threading.Event()

    def pip() -> None:
        while not done.is_set():
            (tmp_path / "tracker" / "below").mkdir(parents=True)
            (tmp_path / "tracker" / "part.whl").write_bytes(b"")
            shutil.rmtree(tmp_path / "tracker")

    working = threading.Thread(target=pip)
    working.start()
    try:
        assert {bytes_under(tmp_path) for _ in range(2000)} == {3}
    finally:
        done.set()
        working.join()


DOWNLOAD = """
import sys
from pathlib import Path
from toolkit.assets.catalog import Wheel
from toolkit.assets.download import download
from toolkit.errors import AssetError

try:
    download(Wheel("nobody-has-this==1.0", 1), [], Path(sys.argv[1]), print)
except AssetError as error:
    print(error)
import setuptools
"""


def test_who_has_downloaded_can_still_import_setuptools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch does when it compiles; in a process of its own, since where it is imported already nothing can fail."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    told = subprocess.run([sys.executable, "-c", DOWNLOAD, tmp_path], capture_output=True, text=True, check=False)
    assert "nobody-has-this" in told.stdout
    assert told.returncode == 0, told.stderr
