"""Every YAML file in recipes/ and egs/ composes, says what its stage then sees, and is counted."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import MISSING

from toolkit.config import KINDS, compose_config, load_parts
from toolkit.data.labels import RULES
from toolkit.data.tasks import load_tasks
from toolkit.errors import ConfigError
from toolkit.interfaces import REGISTRIES
from toolkit.registry import keyword_parameters
from toolkit.stages.imitate import training_tasks

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
EGS = sorted(f"{path.parts[-3]}/conf/{path.stem}" for path in ROOT.glob("egs/*/conf/*.yaml"))
TASKS = sorted(path.stem for path in (ROOT / "recipes/tasks").glob("*.yaml"))
LABELLED = sorted(path.stem for path in (ROOT / "recipes/labelled_tasks").glob("*.yaml"))


load_parts()


def is_built_in(encoder: str) -> bool:
    return bool(REGISTRIES["encoder"][encoder].__module__.startswith("toolkit."))


def defaults_of(encoder: str) -> dict[str, Any]:
    """Return the options that an encoder's own signature has a default for, as a configuration holds them."""
    known = keyword_parameters(REGISTRIES["encoder"][encoder])
    defaults = {name: p.default for name, p in known.items() if p.default is not p.empty}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}


def test_the_tests_below_miss_no_file() -> None:
    found = {f"recipes/{name}" for name in RECIPES} | {f"recipes/tasks/{name}" for name in TASKS}
    found |= {f"egs/{name}" for name in EGS}
    found |= {f"recipes/benchmark_tasks/{name}" for name in load_tasks(ROOT / "recipes/benchmark_tasks")}
    found |= {f"recipes/labelled_tasks/{name}" for name in LABELLED}
    listed = [*(ROOT / "recipes").rglob("*.y*ml"), *ROOT.glob("egs/*/conf/**/*.y*ml")]
    assert found == {path.relative_to(ROOT).with_suffix("").as_posix() for path in listed}
    assert set(RECIPES) >= {"asr", "blsp", "mtbi", "warm_start"}
    assert set(EGS) >= {"mini/conf/mini"}
    assert len(TASKS) >= 7


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Walk the values that are set, by their dotted key; lists are values, interpolations are left out."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, str(key)))
    elif not (isinstance(node, str) and "${" in node):
        yield ".".join(path), node


def overlay(path: Path) -> dict[str, Any]:
    text = path.read_text()
    assert text.startswith("# @package _global_\n"), f"{path}: without this line, its keys go elsewhere"
    return {key: value for key, value in yaml.safe_load(text).items() if key != "defaults"}


def seen(overrides: list[str]) -> dict[str, Any]:
    return dict(leaves(asdict(compose_config([*overrides, "exp_dir=x"]))))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_its_way(recipe: str) -> None:
    asked = dict(leaves(overlay(ROOT / f"recipes/{recipe}.yaml")))
    assert asked.items() <= seen([f"recipes={recipe}"]).items()


@pytest.mark.parametrize("egs", EGS)
def test_a_corpus_has_its_way_under_every_recipe(egs: str) -> None:
    asked = dict(leaves(overlay(ROOT / f"egs/{egs}.yaml")))
    for recipe in RECIPES:
        config = seen([f"recipes={recipe}", f"egs={egs}"])
        assert asked.items() <= config.items()
        assert [kind for kind in KINDS if config[f"{kind}.name"] not in REGISTRIES[kind]] == []


ENCODERS = {
    "whisper": ["encoder.margin=0.5"],
    "ssl": ["encoder.model=somewhere", "encoder.taps=[-1]"],
    "joined": ["+encoder.first={name:whisper,model:a}", "+encoder.second={name:ssl,model:b}"],
    "units": ["+encoder.of={name:ssl,model:a,taps:[-1]}", "encoder.centroids=units.safetensors"],
}
"""encoder -> some of its options"""


@pytest.mark.parametrize("encoder", [name for name in REGISTRIES["encoder"] if is_built_in(name)])
@pytest.mark.parametrize("egs", EGS)
def test_a_corpus_goes_with_every_encoder(egs: str, encoder: str) -> None:
    whisper = compose_config([f"egs={egs}", "exp_dir=x"]).whisper
    assert MISSING not in (whisper.model, whisper.window)
    suggested = {"encoder.model": whisper.model, "encoder.window": whisper.window}
    given = [f"egs={egs}", f"encoder={encoder}", *ENCODERS[encoder]]
    for recipe in ("mtbi", "warm_start"):
        config = seen([f"recipes={recipe}", *given])
        assert config["encoder.name"] == encoder
        assert (suggested.items() <= config.items()) == (encoder == "whisper")
        for option in ENCODERS[encoder]:
            key, _, value = option.removeprefix("+").partition("=")
            said = dict(leaves(yaml.safe_load(re.sub(":(?! )", ": ", value)), tuple(key.split("."))))
            assert said.items() <= config.items()


def test_what_a_corpus_suggests_for_whisper_is_overruled() -> None:
    here = ["recipes=mtbi", "egs=mini/conf/demo"]
    config = seen([*here, "encoder.window=padded"])
    assert (config["encoder.model"], config["encoder.window"]) == ("asset:whisper-tiny.en", "padded")
    assert seen([*here, "encoder.model=a"])["encoder.model"] == "a"
    alone = compose_config(["recipes=mtbi", "exp_dir=x", "encoder.model=a"])
    assert alone.encoder == {"name": "whisper", "model": "a", **defaults_of("whisper")}
    with pytest.raises(ConfigError, match=r"encoder\.model has no default"):
        REGISTRIES["encoder"].build(compose_config(["recipes=mtbi", "exp_dir=x"]).encoder)


def test_a_recipe_may_choose_another_encoder_than_the_corpus_has_values_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "egs/mini/conf", tmp_path / "egs/mini/conf")
    (tmp_path / "recipes").mkdir()
    choice = "# @package _global_\ndefaults:\n  - override /encoder: ssl\nencoder:\n  taps: [1]\n"
    (tmp_path / "recipes/listener.yaml").write_text(choice)
    monkeypatch.setenv("TOOLKIT_ROOT", str(tmp_path))
    config = compose_config(["recipes=listener", "egs=mini/conf/demo", "exp_dir=x", "encoder.model=a"])
    assert config.encoder == {"name": "ssl", "model": "a", "taps": [1]}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_command_line_has_the_last_word(recipe: str) -> None:
    if {"adapter"} & overlay(ROOT / f"recipes/{recipe}.yaml").keys():
        pytest.skip("its adapter has options that no other has; another one is another recipe")
    said = ["adapter=stack", "adapter.factor=7", "train.steps=3"]
    config = seen([f"recipes={recipe}", "egs=mini/conf/mini", *said])
    assert (config["adapter.name"], config["adapter.factor"], config["train.steps"]) == ("stack", 7, 3)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_asks_only_for_tasks_that_may_be_trained(recipe: str) -> None:
    config = compose_config([f"recipes={recipe}", "exp_dir=x"])
    tasks = training_tasks(config)
    assert [name for name in config.imitate.use if name not in tasks or tasks[name].held_out] == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_tests_ask_the_same_under_every_recipe(recipe: str) -> None:
    assert Path(compose_config([f"recipes={recipe}", "exp_dir=x"]).imitate.tasks) == ROOT / "recipes/tasks"


@pytest.mark.parametrize("name", [f"tasks/{n}" for n in TASKS] + [f"labelled_tasks/{n}" for n in LABELLED])
def test_a_task_has_enough_wordings(name: str) -> None:
    folder, _, stem = name.partition("/")
    task = load_tasks(ROOT / "recipes" / folder)[stem]
    assert len(task.testing) >= 3
    assert task.held_out or len(task.training) >= 4
    assert len({plain(w) for w in (*task.training, *task.testing)}) == len(task.training) + len(task.testing)


def test_some_tasks_are_trained_and_some_are_held_out() -> None:
    tasks = load_tasks(ROOT / "recipes/tasks").values()
    assert sum(task.held_out for task in tasks) >= 2
    assert sum(not task.held_out for task in tasks) >= 5


def test_no_held_out_wording_is_ever_trained() -> None:
    tasks = load_tasks(ROOT / "recipes/tasks").values()
    labelled = load_tasks(ROOT / "recipes/labelled_tasks").values()
    trained = {plain(wording) for task in (*tasks, *labelled) for wording in task.training}
    assert [w for task in (*tasks, *labelled) for w in task.testing if plain(w) in trained] == []


def test_the_labelled_tasks_need_no_annotation_and_the_tests_ask_none_of_them() -> None:
    labelled = load_tasks(ROOT / "recipes/labelled_tasks")
    assert {task.target for task in labelled.values()} == {"label", "transcript"}
    assert [task.name for task in labelled.values() if task.target == "label" and task.label not in RULES] == []
    assert labelled.keys() & load_tasks(ROOT / "recipes/tasks").keys() == {"transcribe"}


def plain(wording: str) -> str:
    """Strip what does not make a wording another one: capitals, punctuation, spaces."""
    return " ".join(re.sub(r"[^\w{}]+", " ", wording.lower()).split())
