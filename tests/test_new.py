"""What `toolkit new` writes works as it stands, and it writes over nothing and nobody."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.cli import main
from toolkit.interfaces import REGISTRIES
from toolkit.new import OVERLAYS, PARTS, TRAIN, new

ROOT = Path(__file__).resolve().parents[1]
KINDS = (*PARTS, *OVERLAYS)
COMPOSE = """
import sys
from toolkit.config import compose_config
for line in sys.stdin:
    config = compose_config(line.split())
    print(*(getattr(config, kind)["name"] for kind in ("encoder", "adapter", "decoder", "loss", "interleaver")))
"""


@pytest.fixture(autouse=True)
def _no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOOLKIT_PLUGINS", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)


def names(kind: str, into: Path) -> tuple[Path, Path]:
    """Return the file and the test that a part, recipe or task `mine_KIND` is written to."""
    name = f"mine_{kind}"
    part = into / OVERLAYS[kind] / f"{name}.yaml" if kind in OVERLAYS else into / f"toolkit_{name}.py"
    return part, into / f"test_{name}.py"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with one of each kind, and what was said about each."""
    into = tmp_path_factory.mktemp("mine")
    return into, {kind: new(kind, f"mine_{kind}", into, ROOT) for kind in KINDS}


def environment(into: Path) -> dict[str, str]:
    modules = ",".join(f"toolkit_mine_{kind}" for kind in PARTS)
    return {**os.environ, "PYTHONPATH": str(into), "TOOLKIT_PLUGINS": modules}


def test_every_kind_of_part_can_be_new() -> None:
    assert set(PARTS) == set(REGISTRIES)
    assert set(TRAIN) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_it_writes_one_file_and_its_test(kind: str, written: tuple[Path, dict[str, str]]) -> None:
    into, said = written
    part, test = names(kind, into)
    assert said[kind].splitlines()[0] == f"written: {part}, {test}"
    text = part.read_text()
    assert f"mine_{kind}" in text
    assert "new_part" not in text
    assert "NewPart" not in text
    assert len(text.splitlines()) <= 40
    if kind in PARTS:
        assert f'check_{kind}("mine_{kind}"' in test.read_text()


def test_the_tests_that_it_writes_pass(written: tuple[Path, dict[str, str]]) -> None:
    into, _ = written
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=into, env=environment(into), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"{len(KINDS)} passed" in done.stdout


def test_what_it_writes_is_clean(written: tuple[Path, dict[str, str]]) -> None:
    # Not the order of imports: whether the toolkit is third-party depends on where the file lies.
    rules = ["--select", "E,F,UP,B,SIM,RUF,D,ANN", "--ignore", "D105,D107,D103", "--line-length", "120"]
    into, _ = written
    for command in (["check", "--isolated", *rules], ["format", "--isolated", "--check", "--line-length", "120"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."], cwd=into, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_the_next_commands_compose_on_the_mini_corpus(written: tuple[Path, dict[str, str]]) -> None:
    """Each overrides what the overlay of the corpus and the recipe set, down to the last key."""
    into, said = written
    lines = {}
    for kind in KINDS:
        (line,) = [line for line in said[kind].splitlines() if "run.sh --stage 6" in line or "toolkit train" in line]
        given = re.findall(r"(?<= )[a-z_.]+=\S*", line)
        if "run.sh" in line:
            given = ["recipes=mtbi", "egs=mini/conf/mini", "exp_dir=x", *given]
        if kind == "recipe":
            given.append(f"hydra.searchpath=['file://{ROOT}','file://{into}']")
        lines[kind] = " ".join(given)
    done = subprocess.run(
        [sys.executable, "-c", COMPOSE], input="\n".join(lines.values()), env=environment(into),
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    composed = dict(zip(KINDS, (line.split() for line in done.stdout.splitlines()), strict=True))
    for position, kind in enumerate(("encoder", "adapter", "decoder", "loss", "interleaver")):
        assert composed[kind][position] == f"mine_{kind}"
    assert composed["recipe"][3:] == ["distillation", "words"]


def test_only_what_begins_with_a_warm_start_waits_for_one(written: tuple[Path, dict[str, str]]) -> None:
    _, said = written
    cold = {kind for kind in KINDS if "run.sh --stop-stage 4, once" in said[kind]}
    assert cold == {"adapter", "encoder"}
    assert all("run.sh --stop-stage 5, once" in said[kind] for kind in set(KINDS) - cold)


def test_the_environment_that_it_prints_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TOOLKIT_PLUGINS", "toolkit_one, toolkit_two")
    said = new("loss", "mine", tmp_path, ROOT).splitlines()
    assert f"  export PYTHONPATH={tmp_path}:{ROOT} TOOLKIT_PLUGINS=toolkit_one,toolkit_two,toolkit_mine" in said


def test_a_folder_with_a_space_is_quoted(tmp_path: Path) -> None:
    assert f"export PYTHONPATH='{tmp_path}/my parts' " in new("loss", "mine", tmp_path / "my parts", ROOT)


def test_it_writes_here_unless_told_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "interleaver", "mine"]) == 0
    assert capsys.readouterr().out.startswith("written: toolkit_mine.py, test_mine.py\nnext:\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test_mine.py", "toolkit_mine.py"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", [0, 1])
def test_nothing_is_overwritten(kind: str, which: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = names(kind, tmp_path)[which]
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_text("mine\n")
    assert main(["new", kind, f"mine_{kind}", "--into", str(tmp_path)]) == 2
    assert f"{there} is there already" in capsys.readouterr().err
    assert there.read_text() == "mine\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [there]


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("adapter", "stack", "adapter 'stack' is registered already: toolkit.adapters.stack (built in)"),
        ("loss", "ctc", "loss 'ctc' is registered already: toolkit.losses.ctc (built in)"),
        ("recipe", "mtbi", "there is a recipe 'mtbi' already: "),
        ("task", "title", "there is a task 'title' already: "),
        ("adapter", "mean-pool", "'mean-pool' is no name for a part"),
        ("loss", "2nd", "'2nd' is no name for a part"),
        ("loss", "class", "'class' is no name for a part"),
        ("task", "null", "'null' is no name for a part"),
        ("task", "On", "'On' is no name for a part"),
        ("adaptor", "mine", "unknown kind 'adaptor'. Did you mean 'adapter'?"),
    ],
)
def test_a_name_that_will_not_do_is_refused(
    kind: str, name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", kind, name, "--into", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_plugin_has_its_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new("adapter", "mine", tmp_path, ROOT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TOOLKIT_PLUGINS", "toolkit_mine")
    assert main(["new", "adapter", "mine", "--into", str(tmp_path / "other")]) == 2
    assert "adapter 'mine' is registered already: toolkit_mine ($TOOLKIT_PLUGINS)" in capsys.readouterr().err


def test_parts_of_two_kinds_may_share_a_name(tmp_path: Path) -> None:
    assert "written" in new("interleaver", "stack", tmp_path, ROOT)
