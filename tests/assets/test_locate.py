import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.assets.catalog import ASSETS
from toolkit.assets.locate import assets_root, locate
from toolkit.assets.record import write_record
from toolkit.errors import AssetError, UnknownNameError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of assets; the current folder is another empty one."""
    monkeypatch.setenv("TOOLKIT_ASSETS", str(tmp_path / "assets"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "assets"


def put(root: Path, name: str) -> Path:
    """A stand-in for a fetched asset: only its record counts here."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    write_record(folder, ASSETS[name])
    return folder


def test_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in ("", None):
        monkeypatch.setenv("TOOLKIT_ASSETS", unset or "")
        if unset is None:
            monkeypatch.delenv("TOOLKIT_ASSETS")
        assert assets_root() == tmp_path / ".cache" / "mtbi-toolkit" / "assets"
    monkeypatch.setenv("TOOLKIT_ASSETS", "~/elsewhere")
    assert assets_root() == tmp_path / "elsewhere"


def test_fetched_asset(root: Path) -> None:
    folder = put(root, "whisper-tiny.en")
    assert locate("asset:whisper-tiny.en") == str(folder)


def test_missing_asset_tells_the_command(root: Path) -> None:
    with pytest.raises(AssetError, match=r"is not there yet .*toolkit assets fetch tiny$"):
        locate("asset:smollm2-135m-instruct")
    with pytest.raises(AssetError, match=r"toolkit assets fetch base$"):
        locate("asset:whisper-base")


def test_damaged_asset_tells_the_command(root: Path) -> None:
    (put(root, "whisper-base") / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(AssetError, match=r"is outdated or damaged .*toolkit assets fetch base$"):
        locate("asset:whisper-base")


def test_unknown_asset_lists_the_nearest_and_all(root: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'whisper-tiny\.en'") as caught:
        locate("asset:whisper-tiny")
    assert all(name in str(caught.value) for name in ASSETS)


def test_set_is_not_a_model(root: Path) -> None:
    with pytest.raises(AssetError, match=r"is a set of assets; choose one: whisper-tiny\.en, smollm2"):
        locate("asset:tiny")


def test_forgotten_prefix(root: Path) -> None:
    with pytest.raises(AssetError, match=r"assets are written 'asset:NAME'.*asset:whisper-base"):
        locate("whisper-base")


def test_local_folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "org" / "name").mkdir(parents=True)
    (tmp_path / "here" / "whisper-base").mkdir()
    for folder in (str(tmp_path), "org/name", "./org", "whisper-base"):
        assert locate(folder) == folder
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/here") == str(tmp_path / "here")


@pytest.mark.parametrize("hub_id", ["openai/whisper-small", "gpt2", "HuggingFaceTB/SmolLM2-1.7B_x"])
def test_hub_id_is_passed_on(root: Path, hub_id: str) -> None:
    assert locate(hub_id) == hub_id


@pytest.mark.parametrize("path", ["./none", "../none", "/none", "~/none", "a/b/c", ".hidden"])
def test_path_that_does_not_exist(root: Path, path: str) -> None:
    with pytest.raises(AssetError, match="there is no such folder"):
        locate(path)


def test_file_is_not_a_folder(root: Path) -> None:
    Path("model.safetensors").write_bytes(b"")
    with pytest.raises(AssetError, match=r"is a file; give the folder that holds its config\.json"):
        locate("model.safetensors")


@pytest.mark.parametrize("nonsense", ["", "two words", "org/", "hf://x", "https:x"])
def test_nonsense(root: Path, nonsense: str) -> None:
    with pytest.raises(AssetError, match=r"is neither 'asset:NAME' nor a folder nor a hub id|no such folder"):
        locate(nonsense)


def test_imports_nothing_heavy() -> None:
    program = (
        "import sys; import toolkit.assets.locate; "
        "heavy = {'torch', 'transformers', 'numpy', 'rich', 'safetensors'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    source = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", program], check=True, cwd=source)
