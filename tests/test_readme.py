"""What the README and the docs tell a reader to type exists and answers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.cli import STAGES, TOOLS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md", ROOT / "docs/tutorial.md", ROOT / "docs/conversations.md", ROOT / "docs/suites.md",
    ROOT / "docs/imitation_data.md", ROOT / "plugins/README.md", ROOT / "recipes/README.md",
    ROOT / "docs/servers.md", ROOT / "docs/ranks.md", ROOT / "docs/batches.md", ROOT / "egs/librispeech/README.md",
]  # fmt: skip


def commands() -> list[str]:
    """All lines of shell blocks, comments and prompts taken away."""
    lines = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            lines += [line.split("  #")[0].strip() for line in block.splitlines() if line.strip()]
    return lines


def test_there_are_commands_to_look_at() -> None:
    assert len(commands()) >= 12


def test_every_toolkit_command_named_in_the_docs_exists() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"`?toolkit ([a-z]+)\b(?= |`)", text)) & {
        *re.findall(r"toolkit ([a-z]+)", " ".join(commands()))
    }
    assert named
    assert named <= {*STAGES, *TOOLS}, named - {*STAGES, *TOOLS}


@pytest.mark.parametrize("command", sorted({c for c in commands() if c.startswith("make ")}))
def test_every_make_target_named_in_the_docs_exists(command: str) -> None:
    planned = subprocess.run(
        ["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert planned.returncode == 0, planned.stderr


@pytest.mark.parametrize(
    "command", sorted({c for c in commands() if re.fullmatch(r"toolkit (--help|list.*|show .*)", c)})
)
def test_the_quick_commands_of_the_docs_run(command: str) -> None:
    arguments = [sys.executable, "-m", *command.split()]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_file_of_the_readmes_tree_is_there() -> None:
    tree = (ROOT / "README.md").read_text().split("## The tree")[1].split("```")[1]
    names = [name for line in tree.splitlines() for name in re.findall(r"^\s*((?:[a-z_]+(?:\.py|/) ?)+)", line)]
    inside = [
        n for group in names for n in group.split() if not (ROOT / n).exists() and not (ROOT / "toolkit" / n).exists()
    ]
    assert inside == []


def test_the_run_scripts_explain_every_option() -> None:
    for script in sorted(ROOT.glob("egs/*/*.sh")):
        if script.name == "path.sh":
            continue
        done = subprocess.run([str(script), "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, script
        explained = set(re.findall(r"--([a-z-]+)", done.stdout))
        defaults = script.read_text().split(". ../../tools/parse_options.sh")[0].split("cd ")[1].split("\n", 1)[1]
        options = {name.replace("_", "-") for name in re.findall(r"\b([a-z_]+)=", defaults)}
        assert options <= explained, (script, options - explained)
