"""How far a download is: asked while pip makes and removes folders."""

import shutil
import threading
from pathlib import Path

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
