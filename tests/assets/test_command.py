import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from toolkit.assets.catalog import ASSETS
from toolkit.assets.command import main
from toolkit.assets.record import write_record
from toolkit.assets.report import Step
from toolkit.errors import UnknownNameError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of assets in which whisper-base is fetched and smollm2 is outdated."""
    monkeypatch.delenv("TOOLKIT_ASSETS", raising=False)
    for name in ("whisper-base", "smollm2-135m-instruct"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        write_record(tmp_path / name, ASSETS[name])
    record = tmp_path / "smollm2-135m-instruct" / "asset.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "converter_version": 0}))
    return tmp_path


def test_list(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["list", "--root", str(root)]) == 0
    shown = capsys.readouterr().out
    rows = {name: next(line.split() for line in shown.splitlines() if name in line) for name in ASSETS}
    assert rows["whisper-base"] == ["whisper-base", "base", "148", "MB", "MIT", "yes"]
    assert rows["whisper-tiny.en"][-5:] == ["no:", "toolkit", "assets", "fetch", "tiny"]
    assert "outdated:" in rows["smollm2-135m-instruct"]
    assert root.name in shown


def test_fetch_of_what_is_there(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "base", "--root", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "whisper-base: already there" in shown
    assert f"asset:whisper-base is in {root / 'whisper-base'}" in shown
    assert f"export TOOLKIT_ASSETS={root}" in shown


def test_unknown_name(root: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        main(["fetch", "tny", "--root", str(root)])


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        main(["fetch", "--help"])
    assert caught.value.code == 0
    assert "tiny: whisper-tiny.en + smollm2-135m-instruct" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("terminal", [True, False])
def test_display(terminal: bool) -> None:
    from toolkit.assets.command import Display

    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, color_system=None)
    with Display(console) as display:
        for done in (0, 40_000_000, 80_000_000):
            display("a-model", Step.DOWNLOAD, done, 80_000_000)
            display.bars.refresh()
        display("a-model", Step.CONVERT, 0, 0)
        display("a-model", Step.READY, 0, 0)
    shown = out.getvalue()
    assert "a-model: downloading (80 MB)" in shown
    assert "a-model: ready" in shown
    assert (" 50% " in shown) is terminal
    if not terminal:
        assert shown.count("\n") == 3, "a line per step"
