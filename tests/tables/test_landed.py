"""The tables that egs holds: their answers are those of their table.yaml as it is today, and none is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolkit.tables.command import main

EGS = Path(__file__).resolve().parents[2] / "egs"
TABLES = sorted(path.parent for path in EGS.glob("*/table.yaml"))


@pytest.mark.parametrize("folder", TABLES, ids=lambda folder: folder.name)
def test_nothing_of_a_landed_table_is_left_to_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--dry-run"], "") == 0  # refuses answers of other settings
    *cells, last = capsys.readouterr().out.splitlines()[1:]
    assert len(cells) > 1
    assert all(cell.rstrip().endswith("answers kept") for cell in cells), cells
    assert last.split() == ["all", "0.00"]


@pytest.mark.parametrize("folder", TABLES, ids=lambda folder: folder.name)
def test_a_landed_page_says_its_command(folder: Path) -> None:
    command = f"toolkit table egs/{folder.name}"
    assert json.loads((folder / "results.json").read_text())["command"] == command
    assert f"`{command}`" in (folder / "RESULTS.md").read_text()
