"""tools/parse_options.sh, as a run script uses it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[..., subprocess.CompletedProcess[str]]

SCRIPT = """\
#!/usr/bin/env bash
# Makes a toy.
#   --stage N     first stage to run (default 1)

set -euo pipefail
cd "$(dirname "$0")"
stage=1 stop_stage=3 exp_dir=exp recipe=mtbi
# not part of the help
. {parse_options}

run 1 "begin" echo one
run 2 "go on" {second}
run 3 "end" echo "three recipe=$recipe exp_dir=$exp_dir" "$@"
"""


@pytest.fixture
def script(tmp_path: Path) -> Run:
    """Run the script with options; `second` is what its stage 2 does."""

    def run(*options: str, second: str = "echo two") -> subprocess.CompletedProcess[str]:
        file = tmp_path / "run.sh"
        file.write_text(SCRIPT.format(parse_options=ROOT / "tools/parse_options.sh", second=second))
        return subprocess.run(["bash", str(file), *options], capture_output=True, text=True)

    return run


def refused(done: subprocess.CompletedProcess[str], message: str) -> None:
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_options_every_stage_runs_with_the_defaults(script: Run) -> None:
    done = script()
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["one", "two", "three recipe=mtbi exp_dir=exp"]


def test_each_stage_says_what_it_does(script: Run) -> None:
    titles = [line.split(" ", 2)[2] for line in script().stderr.splitlines()]
    assert titles == ["stage 1: begin", "stage 2: go on", "stage 3: end"]


@pytest.mark.parametrize("option", ["--exp-dir", "--exp_dir"])
def test_options_are_written_with_dashes_or_underscores(script: Run, option: str) -> None:
    assert script(option, "exp/a b", "--recipe", "asr").stdout.endswith("three recipe=asr exp_dir=exp/a b\n")


def test_what_follows_the_options_is_left_to_hydra(script: Run) -> None:
    done = script("--stage", "3", "train.steps=10", "adapter=conv", "--stage")
    assert done.stdout == "three recipe=mtbi exp_dir=exp train.steps=10 adapter=conv --stage\n"


def test_an_unknown_option_is_refused_by_name(script: Run) -> None:
    refused(script("--stag", "3"), "unknown option --stag (try --help)")


@pytest.mark.parametrize("option", ["--", "--no-such", "--PATH", "--1", "--name"])
def test_no_other_word_is_taken_for_an_option(script: Run, option: str) -> None:
    refused(script(option, "3"), f"unknown option {option} ")


def test_an_option_with_an_equals_sign_is_refused_with_the_right_form(script: Run) -> None:
    refused(script("--stage=3"), "write '--stage 3', not '--stage=3'")


def test_an_option_without_its_value_is_refused(script: Run) -> None:
    refused(script("--stage"), "--stage needs a value")


@pytest.mark.parametrize("value", ["two", "-1", "1.5", "", "08"])
def test_a_stage_is_a_number(script: Run, value: str) -> None:
    refused(script("--stage", value), "--stage and --stop-stage are numbers")


def test_help_is_the_comment_at_the_head_of_the_script(script: Run) -> None:
    done = script("--help")
    assert done.returncode == 0
    assert done.stdout == "Makes a toy.\n  --stage N     first stage to run (default 1)\n"


def test_help_is_found_from_every_folder() -> None:
    done = subprocess.run(["egs/mini/run.sh", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--stop-stage N" in done.stdout


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ("--stage 2", ["two", "three"]),
        ("--stop-stage 2", ["one", "two"]),
        ("--stage 2 --stop_stage 2", ["two"]),
    ],
)
def test_only_the_stages_asked_for_run(script: Run, options: str, stages: list[str]) -> None:
    assert [line.split()[0] for line in script(*options.split()).stdout.splitlines()] == stages


def test_a_failing_stage_stops_the_script_with_its_status(script: Run) -> None:
    done = script(second="bash -c 'exit 7'")
    assert done.returncode == 7
    assert done.stdout == "one\n"


def stages(corpus: str, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script of a corpus with commands that print what they are told."""
    for name in ("toolkit", "torchrun"):
        command = tmp_path / name
        command.write_text('#!/bin/sh\nprintf "<%s>" "$@"; echo\n')
        command.chmod(0o755)
    folder = tmp_path / "egs" / corpus  # away from the checkout, whose own environment path.sh would prefer
    shutil.copytree(ROOT / "egs" / corpus, folder, ignore=shutil.ignore_patterns("data", "exp"))
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    return subprocess.run(
        ["bash", str(folder / "run.sh"), *options],
        capture_output=True, text=True, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip


@pytest.mark.parametrize("corpus", ["librispeech", "speechocean762"])
@pytest.mark.parametrize("warm", ["exp/warm_start", "none"])
def test_the_shared_stages_are_told_the_options(corpus: str, warm: str, tmp_path: Path) -> None:
    done = stages(corpus, tmp_path, "--corpus", "a b", "--recipe", "asr", "--warm", warm, "train.steps=2")
    assert done.returncode == 0, done.stderr
    where, init = f"<egs={corpus}/conf/{corpus}>", "" if warm == "none" else f"{warm}/checkpoint"
    assert done.stdout.splitlines() == [
        "<assets><fetch><tiny>",
        f"<prepare><recipes=asr>{where}<prepare.corpus=a b><train.steps=2>",
        f"<align><recipes=asr>{where}<train.steps=2>",
        f"<encode><recipes=asr>{where}<train.steps=2>",
        f"<imitate><recipes=asr>{where}<train.steps=2>",
        *([] if warm == "none" else [f"<train><recipes=warm_start>{where}<exp_dir={warm}><train.steps=2>"]),
        f"<train><recipes=asr>{where}<exp_dir=exp/asr><train.init_from={init}><train.steps=2>",
        f"<decode><recipes=asr>{where}<exp_dir=exp/asr><train.steps=2>",
        f"<score><recipes=asr>{where}<exp_dir=exp/asr><train.steps=2>",
        "<table><exp/asr>",
    ]


def test_trainings_alone_are_started_on_several_gpus(tmp_path: Path) -> None:
    done = stages("librispeech", tmp_path, "--conf", "librispeech/conf/full", "--gpus", "8")
    trained = ["warm_start", "mtbi"]
    started = [line for line in done.stdout.splitlines() if line.startswith("<--standalone>")]
    assert [line.split("><egs=")[0] for line in started] == [
        f"<--standalone><--nproc-per-node><8><--no-python><toolkit><train><recipes={recipe}" for recipe in trained
    ]
    others = [line.split(">")[0] for line in done.stdout.splitlines() if line not in started]
    assert others == ["<assets", "<prepare", "<align", "<encode", "<imitate", "<decode", "<score", "<table"]


@pytest.mark.parametrize("path", sorted(ROOT.glob("egs/*/run.sh")), ids=lambda path: path.parent.name)
def test_every_run_script_documents_its_options(path: Path) -> None:
    text = path.read_text()
    defaults = next(line for line in text.splitlines() if line.startswith("stage="))
    documented = text.split("\nset -")[0]
    for name in (word.split("=")[0] for word in defaults.split() if "=" in word):
        assert f"#   --{name.replace('_', '-')} " in documented, name
