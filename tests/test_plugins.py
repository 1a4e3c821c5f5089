"""Plugins from the outside: how they are seen, and how a bad one or a slip stops the program by name."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException, MissingConfigException

from toolkit.cli import main
from toolkit.config import Config, compose_config
from toolkit.new import new
from toolkit.plugins import plugin_modules

ROOT = Path(__file__).resolve().parents[1]

TWIN = '''
from torch import Tensor, nn

from toolkit.interfaces import ADAPTERS, Adapter, Padded


@ADAPTERS.register("twin")
class {name}(Adapter):
    """One of two."""

    def __init__(self, input_dim: int, output_dim: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.project = nn.Linear(input_dim, output_dim)

    def forward(self, frames: Padded) -> Padded:
        return Padded(self.project(frames.zeroed()), frames.lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return lengths
'''


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with modules that a test names in $TOOLKIT_PLUGINS."""
    (tmp_path / "toolkit_broken.py").write_text("import toolkit_no_such_module\n")
    (tmp_path / "toolkit_castor.py").write_text(TWIN.format(name="Castor"))
    (tmp_path / "toolkit_pollux.py").write_text(TWIN.format(name="Pollux"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def toolkit(modules: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, where no other test has registered anything."""
    return subprocess.run(
        [sys.executable, "-m", "toolkit", *arguments],
        env={**os.environ, "TOOLKIT_PLUGINS": modules}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.usefixtures("plugins")
def test_a_plugin_that_does_not_import_stops_the_program_and_is_named() -> None:
    done = toolkit("toolkit_broken", "show", "adapter", "stack")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "plugin 'toolkit_broken' ($TOOLKIT_PLUGINS) does not import" in done.stderr
    assert "No module named 'toolkit_no_such_module'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["import sys; sys.exit(0)", "def broken(:", "1 / 0"])
def test_whatever_a_plugin_does_instead_of_importing_it_is_named(plugins: Path, text: str) -> None:
    (plugins / "toolkit_bad.py").write_text(text + "\n")
    done = toolkit("toolkit_castor,toolkit_bad", "check", "words")
    assert done.returncode == 2
    assert "plugin 'toolkit_bad' ($TOOLKIT_PLUGINS) does not import" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("plugins")
def test_two_plugins_with_one_name_stop_the_program_and_are_both_named() -> None:
    done = toolkit("toolkit_castor,toolkit_pollux", "show", "adapter", "stack")
    assert done.returncode == 2
    assert "two adapters claim the name 'twin'" in done.stderr
    assert "toolkit_castor.Castor" in done.stderr
    assert "toolkit_pollux.Pollux" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("plugins")
def test_a_plugin_is_shown_with_its_options_like_any_part() -> None:
    done = toolkit("toolkit_castor", "show", "adapter", "twin")
    assert done.returncode == 0, done.stderr
    assert "One of two." in done.stdout
    assert "toolkit_castor.py:" in done.stdout
    assert "adapter.scale: float = 1.0" in done.stdout


@pytest.mark.usefixtures("plugins")
def test_the_list_shows_where_a_plugin_comes_from() -> None:
    done = toolkit("toolkit_castor", "list", "adapter")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert "One of two." in rows["twin"]
    assert rows["twin"].rstrip().endswith("$TOOLKIT_PLUGINS")
    assert rows["stack"].rstrip().endswith("built in")


def test_modules_are_named_with_commas_or_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_PLUGINS", "toolkit_one, toolkit_two")
    named = {module: origin for module, origin in plugin_modules().items() if origin == "$TOOLKIT_PLUGINS"}
    assert list(named) == ["toolkit_one", "toolkit_two"]


def test_show_prints_options_with_types_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "adapter", "stack"]) == 0
    shown = capsys.readouterr().out
    assert "adapter stack: toolkit.adapters.stack.StackAdapter" in shown
    assert "toolkit/adapters/stack.py:" in shown
    assert "adapter.factor: int = 5" in shown


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("lst", "unknown command 'lst'. Did you mean 'list'?"),
        ("list adaptor", "unknown kind 'adaptor'. Did you mean 'adapter'?"),
        ("show adaptor stack", "unknown kind 'adaptor'. Did you mean 'adapter'?"),
        ("show adapter stak", "unknown adapter 'stak'. Did you mean 'stack'?"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_name(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("override", ["adapter.windw=2", "train.stepz=2"])
def test_an_unknown_key_is_refused_by_name(override: str) -> None:
    section, key = override.split("=")[0].split(".")
    with pytest.raises(ConfigCompositionException) as error:
        compose_config(["recipes=mtbi", "egs=mini/conf/mini", "exp_dir=x", override])
    assert f"{section}.{key}" in str(error.value)
    assert f"Key '{key}' not in" in str(error.value.__cause__)


def test_an_unknown_part_is_answered_with_all_there_are() -> None:
    with pytest.raises(MissingConfigException, match=r"(?s)Could not find 'adapter/stak'.*conv.*ctc.*stack"):
        compose_config(["recipes=mtbi", "egs=mini/conf/mini", "exp_dir=x", "adapter=stak"])


def test_the_guide_shows_the_example_as_it_is() -> None:
    folder = ROOT / "plugins"
    guide = (folder / "README.md").read_text()
    assert f"```python\n{(folder / 'meanpool/toolkit_meanpool.py').read_text()}```" in guide
    entry_point = guide.split("```toml\n")[1].split("```")[0]
    assert entry_point in (folder / "meanpool/pyproject.toml").read_text()


def test_the_guide_names_every_example() -> None:
    rows = re.findall(r"^\| `(\w+)/` \| (\w+) \|", (ROOT / "plugins/README.md").read_text(), re.MULTILINE)
    examples = {file.parent.name: file.read_text() for file in ROOT.glob("plugins/*/toolkit_*.py")}
    assert {name for name, _ in rows} == set(examples) == {file.parent.name for file in ROOT.glob("plugins/*/*.toml")}
    for name, kind in rows:
        registry = {"loss": "LOSSES"}.get(kind, f"{kind.upper()}S")
        assert f'@{registry}.register("{name}")' in examples[name]


def test_the_checks_of_the_guide_hold(capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(r"^toolkit (check .*)", (ROOT / "plugins/README.md").read_text(), re.MULTILINE)
    assert commands
    for command in commands:
        assert main(command.split()) == 0
        assert "keeps its law" in capsys.readouterr().out


def ten_minutes(language: str) -> list[str]:
    """Return the code blocks of one language in the tutorial's section on a part of one's own."""
    section = (
        (ROOT / "docs/tutorial.md").read_text().split("## A part of your own in ten minutes\n")[1].split("\n## ")[0]
    )
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def shell(commands: str, folder: Path, modules: str = "") -> subprocess.CompletedProcess[str]:
    """Run lines of the tutorial in a folder, as a reader would: by bash, with this environment's programs."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    place = {"PYTHONPATH": str(folder / "parts"), "TOOLKIT_PLUGINS": modules} if modules else {}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder, env={**os.environ, "PATH": path, **place}, capture_output=True, text=True,
    )  # fmt: skip


def test_the_ten_minutes_of_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_PLUGINS", "")
    monkeypatch.setenv("PYTHONPATH", "")
    blocks = ten_minutes("sh")
    done = shell("\n".join(blocks[:3]), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("written: parts/toolkit_thin.py, parts/test_thin.py\nnext:\n")
    assert f"export PYTHONPATH={tmp_path}/parts TOOLKIT_PLUGINS=toolkit_thin\n" in done.stdout
    assert done.stdout.count("adapter 'thin' keeps its law") == 2
    assert "1 passed" in done.stdout
    file = tmp_path / "parts/toolkit_thin.py"
    (step,) = ten_minutes("python")
    before, line, after = re.split(r"(        kept = .*\n)", file.read_text())
    file.write_text(before + line + step + after)
    broken = shell("toolkit check thin", tmp_path, "toolkit_thin")
    assert broken.returncode == 1
    (shown,) = ten_minutes("text")
    assert (broken.stdout + broken.stderr).endswith(shown)


def test_the_tutorial_trains_with_the_part(
    config_of: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of the tutorial, with tiny models on noise in place of the mini corpus."""
    monkeypatch.setenv("TOOLKIT_PLUGINS", "")
    monkeypatch.chdir(ROOT)
    (line,) = [line for block in ten_minutes("sh") for line in block.splitlines() if "--stage 6" in line]
    assert line.replace(" --minutes 6", "") in new("adapter", "thin", tmp_path / "parts", ROOT)
    config = config_of(tmp_path / "exp")
    tiny = (
        f"recipes=mtbi exp_dir={config.exp_dir} data_dir={config.data_dir} encoder.model={config.encoder['model']} "
        f"encoder.window=true_length decoder.model={config.decoder['model']} train.steps=2 train.batch_size=4 "
        "train.validate_every=2 imitate.max_new_tokens=5 prepare.format=jsonl"
    )
    own = " ".join(re.findall(r"[a-z_.]+=\S*", line))
    done = shell(f"toolkit train {tiny} cut=embeddings {own}", tmp_path, "toolkit_thin")
    assert done.returncode == 0, done.stderr
    assert "plugin toolkit_thin ($TOOLKIT_PLUGINS)" in done.stderr
    assert (tmp_path / "exp/checkpoint/trainable.safetensors").exists()
    assert "name: thin" in (tmp_path / "exp/checkpoint/config.yaml").read_text()
