"""What `toolkit list` reads from the sources is what importing registers."""

import inspect
from pathlib import Path

import pytest

from toolkit.config import KINDS, load_parts
from toolkit.interfaces import REGISTRIES
from toolkit.listing import KIND_OF, Part, list_overlays, list_parts
from toolkit.plugins import plugin_modules

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def registered() -> dict[tuple[str, str], type]:
    """What importing registers, without the toys of other tests."""
    packages = {"toolkit", *(module.split(".")[0] for module in load_parts())}
    return {
        (kind, name): registry[name]
        for kind, registry in REGISTRIES.items()
        for name in registry
        if registry[name].__module__.split(".")[0] in packages
    }


def test_the_scan_finds_what_importing_registers(registered: dict[tuple[str, str], type]) -> None:
    parts = list_parts(plugin_modules())
    assert [(part.kind, part.name) for part in parts] == sorted(registered)
    assert len(parts) >= 12
    for part in parts:
        cls = registered[part.kind, part.name]
        assert part.summary == (inspect.getdoc(cls) or "").splitlines()[0]
        assert cls.__module__ == part.module or cls.__module__.startswith(f"{part.module}.")


def test_every_part_says_in_a_sentence_what_it_is() -> None:
    assert [part for part in list_parts(plugin_modules()) if not part.summary.endswith(".")] == []


def test_the_kinds_are_the_same_everywhere() -> None:
    assert set(KIND_OF.values()) == set(REGISTRIES) == set(KINDS)


def test_a_plugin_is_scanned_without_being_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "toolkit_toy_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text(
        "raise RuntimeError('was run')\n\n"
        "@ADAPTERS.register('toy')\nclass Toy(Adapter):\n    '''A toy.\n\n    More about it.\n    '''\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = [part for part in list_parts({"toolkit_toy_plugin": "a test"}) if part.origin == "a test"]
    assert found == [Part("adapter", "toy", "A toy.", "toolkit_toy_plugin", "a test")]


def test_a_plugin_that_is_not_there_is_listed_as_such() -> None:
    found = [part for part in list_parts({"toolkit_nowhere": "a test"}) if part.origin == "a test"]
    assert [(part.kind, part.name) for part in found] == [("?", "toolkit_nowhere")]
    assert "not found" in found[0].summary


@pytest.mark.parametrize("folder", ["recipes", "recipes/tasks", "recipes/benchmark_tasks"])
def test_every_recipe_and_task_says_what_it_is(folder: str) -> None:
    overlays = list_overlays(ROOT / folder)
    assert set(overlays) == {path.stem for path in (ROOT / folder).iterdir() if path.suffix == ".yaml"}
    assert [name for name, summary in overlays.items() if len(summary) < 20] == []
