"""What made a number: the commit, and whether what decides a number differs from it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from toolkit.scoring.provenance import commit


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a checkout of its own, committed, with a page and answers beside it."""
    folder = tmp_path / "code" / "part"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (tmp_path / "code" / "RESULTS.md").write_text("42\n")
    git(tmp_path / "code", "init", "--quiet")
    git(tmp_path / "code", "add", ".")
    git(tmp_path / "code", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "Begin")
    return folder


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_of_a_clean_checkout(package: Path) -> None:
    assert commit(package) == git(package, "rev-parse", "HEAD")


def test_what_a_table_writes_is_no_change(package: Path) -> None:
    (package.parent / "RESULTS.md").write_text("43\n")
    (package.parent / "egs/toy/answers/asr.1").mkdir(parents=True)
    for name in ("answers/asr.1/made.json", "answers/text.jsonl.gz", "results.json"):
        (package.parent / "egs/toy" / name).touch()
    assert commit(package) == git(package, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    "name",
    [
        "part/__init__.py",
        "part/new.py",
        "conf/mine.yaml",
        "run.sh",
        "shapes/llm.json",
        "corpus/said.opus",
    ],
)
def test_all_else_is_a_change(package: Path, name: str) -> None:
    path = package.parent / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("# changed\n")
    assert commit(package) == git(package, "rev-parse", "HEAD") + "+changes"


def test_none_where_there_is_no_checkout_or_no_git(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commit(tmp_path) is None
    inside = package.parent / "venv"  # somebody else's checkout
    inside.mkdir()
    (inside / "__init__.py").touch()
    assert commit(inside) is None
    monkeypatch.setenv("PATH", "")
    assert commit(package) is None
