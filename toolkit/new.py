"""`toolkit new`: a part, a recipe or a task of one's own, written as a file that works and a test beside it."""

from __future__ import annotations

import keyword
import os
import re
import shlex
from importlib.resources import files
from pathlib import Path

from toolkit.errors import ConfigError, unknown_name
from toolkit.listing import list_overlays, list_parts
from toolkit.plugins import VARIABLE, plugin_modules

PARTS = ("encoder", "adapter", "decoder", "loss", "interleaver")
OVERLAYS = {"task": "recipes/tasks", "recipe": "recipes"}
"""kind of YAML file -> the folder it is found in, below any folder that is searched"""
MEANS_SOMETHING = {"null", "true", "false", "yes", "no", "on", "off", "nan", "inf"}
"""what YAML or Hydra would not read as a name"""

_PART_TEST = '''"""The {kind} `{name}` keeps the law of its kind."""

import {module}  # noqa: F401  (registers it)
from toolkit.testing import check_{kind}


def test_{name}_keeps_its_law() -> None:
    check_{kind}("{name}")
'''
_DECODER_TEST = '''"""The decoder `{name}` keeps the law of its kind, on a tiny random model."""

from pathlib import Path

import {module}  # noqa: F401  (registers it)
from toolkit.testing import check_decoder
from toolkit.testing.tiny import tiny_llm


def test_{name}_keeps_its_law(tmp_path: Path) -> None:
    check_decoder("{name}", model=str(tiny_llm(tmp_path / "llm")))
'''
_RECIPE_TEST = '''"""The recipe `{name}` composes: every key exists and has its type, every part has its name."""

from pathlib import Path

from toolkit.config import compose_config, root


def test_{name}_composes() -> None:
    folders = f"['file://{{root()}}','file://{{Path(__file__).resolve().parent}}']"
    config = compose_config([f"hydra.searchpath={{folders}}", "recipes={name}", "exp_dir=x"])
    assert config.interleaver["name"] == "words"
'''
_TASK_TEST = '''"""The task `{name}` reads: known keys, `{{speech}}` once in a wording, none on both sides."""

from pathlib import Path

from toolkit.data.tasks import load_tasks


def test_{name}_reads() -> None:
    task = load_tasks(Path(__file__).parent / "recipes" / "tasks")["{name}"]
    assert task.testing
    assert task.held_out or task.training
'''
TESTS = {"decoder": _DECODER_TEST, "recipe": _RECIPE_TEST, "task": _TASK_TEST}

_MINI = "{root}/egs/mini/run.sh"
TRAIN = {
    "adapter": (f"{_MINI} --stage 6 --exp exp/{{name}} adapter={{name}} train.init_from=",),
    "decoder": (f"{_MINI} --stage 6 --exp exp/{{name}} decoder={{name}}",),
    "loss": (f"{_MINI} --stage 6 --exp exp/{{name}} loss={{name}}",),
    "interleaver": (f"{_MINI} --stage 6 --exp exp/{{name}} interleaver={{name}}",),
    "encoder": (
        "toolkit encode encoder={name} data_dir={root}/egs/mini/data exp_dir=exp/{name}",
        "toolkit train recipes=asr encoder={name} decoder.model=asset:smollm2-135m-instruct "
        "data_dir={root}/egs/mini/data exp_dir=exp/{name}",
    ),
    "recipe": (f"{_MINI} --stage 4 --recipe {{name}}{{search}}",),
    "task": (
        f"{_MINI} --stage 4 --stop-stage 4{{tasks}}",
        f"{_MINI} --stage 6 --exp exp/{{name}}{{tasks}}",
    ),
}
"""kind -> how a model is trained with it on the mini corpus, whose stages 0 to 4 are done, and 5 but for `COLD`"""
COLD = ("adapter", "encoder")
"""kinds that are trained from nothing: a new one of these has no use for the warm start of stage 5"""


def new(kind: str, name: str, into: Path, root: Path) -> str:
    """Write a part, recipe or task called `name`, and its test.

    Args:
        kind: one of `PARTS` or `OVERLAYS`.
        name: what configurations will call it.
        into: folder for the files; made if it is not there.
        root: folder that holds `recipes/` and `egs/`.

    Returns:
        What was written and the commands that come next, as lines.

    Raises:
        ConfigError: not a name, a name that somebody has, or a file that is there already.
    """
    if kind not in (*PARTS, *OVERLAYS):
        raise unknown_name("kind", kind, [*PARTS, *OVERLAYS])
    _check_name(kind, name, root)
    into = into.resolve()
    suffix = ".yaml" if kind in OVERLAYS else ".py"
    text = (files("toolkit.templates") / f"{kind}{suffix}").read_text()
    text = text.replace("new_part", name).replace("NewPart", _camel(name))
    module = f"toolkit_{name}"
    part = into / OVERLAYS[kind] / f"{name}.yaml" if kind in OVERLAYS else into / f"{module}.py"
    test = into / f"test_{name}.py"
    for path in (part, test):
        if path.exists():
            raise ConfigError(f"{path} is there already and stays as it is: choose another name, or another --into")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(text)
    test.write_text(TESTS.get(kind, _PART_TEST).format(kind=kind, name=name, module=module))
    return "\n".join(
        [f"written: {_short(part)}, {_short(test)}", "next:", *_commands(kind, name, into, root.resolve())]
    )


def _check_name(kind: str, name: str, root: Path) -> None:
    """Refuse what is no name or not free.

    Raises:
        ConfigError: it says why, and who has the name.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name) or name.lower() in MEANS_SOMETHING:
        raise ConfigError(
            f"'{name}' is no name for a part: take letters, digits and underscores, a letter first, "
            "and no word that Python or YAML knows"
        )
    if kind in OVERLAYS:
        folder = root / OVERLAYS[kind]
        if name in list_overlays(folder):
            raise ConfigError(f"there is a {kind} '{name}' already: {folder / name}.yaml")
        return
    for part in list_parts(plugin_modules()):
        if (part.kind, part.name) == (kind, name):
            raise ConfigError(f"{kind} '{name}' is registered already: {part.module} ({part.origin})")


def _commands(kind: str, name: str, into: Path, root: Path) -> list[str]:
    """Return the lines to type next: how it is found, how it is checked, how it is trained with."""
    pytest = f"pytest {shlex.quote(_short(into / f'test_{name}.py'))}"
    search = tasks = ""
    if into != root:
        search = f" -cd {shlex.quote(str(into))}"
        tasks = shlex.quote(f"imitate.tasks={into / OVERLAYS['task']}")
        tasks = f" {tasks}"
    if kind in PARTS:
        check = [_export(into, f"toolkit_{name}"), f"toolkit check {name} {kind}   # the same in a test: {pytest}"]
    elif kind == "recipe":
        check = [pytest, f"toolkit train recipes={name} exp_dir=exp/{name} --cfg job{search}   # all that it decides"]
    else:
        check = [pytest]
    place = shlex.quote(_short(root))
    train = [line.format(name=name, root=place, search=search, tasks=tasks) for line in TRAIN[kind]]
    last, takes = (4, "some minutes") if kind in COLD else (5, "an hour or two")
    before = f"# then, after {place}/egs/mini/run.sh --stop-stage {last}, once ({takes} on two cores):"
    return [f"  {line}" for line in (*check, before, *train)]


def _export(into: Path, module: str) -> str:
    """Return the line by which a module is found without packaging, beside those that are found so already."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    modules = os.environ.get(VARIABLE, "").replace(",", " ").split()
    found = os.pathsep.join(dict.fromkeys([str(into), *paths]))
    named = ",".join(dict.fromkeys([*modules, module]))
    return f"export PYTHONPATH={shlex.quote(found)} {VARIABLE}={shlex.quote(named)}"


def _short(path: Path) -> str:
    """Return a path as seen from the current folder, if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _camel(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))
