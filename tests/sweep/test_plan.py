"""A sweep's YAML: what it may say, what every cell is composed of, and that the sweeps in egs/ compose."""

from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit.config import compose_config
from toolkit.errors import ConfigError, DataError, ToolkitError
from toolkit.interfaces import ADAPTERS, TimedAdapter
from toolkit.sweep.plan import choose_cells, plan, read_sweep

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = sorted(ROOT.glob("egs/*/sweeps/*.yaml"))
MODELS = ["encoder.model=nowhere", "decoder.model=nowhere"]
TOY = """
about: a toy
shared: train.batch_size=4
steps: 7
cells:
  - {name: a, overrides: adapter=stack adapter.factor=2}
  - {name: b, overrides: "adapter=conv", warm: true}
"""


def toy(folder: Path, text: str = TOY) -> Path:
    path = folder / "toy.yaml"
    path.write_text(text)
    return path


def test_a_cell_is_composed_of_what_is_shared_its_own_the_budget_and_the_command_line(tmp_path: Path) -> None:
    sweep = read_sweep(toy(tmp_path))
    cells = choose_cells(sweep, [], warm=True)
    planned = plan(sweep, cells, tmp_path, steps=7, minutes=0, warm=Path("w"), more=["recipes=asr", "seed=3", *MODELS])
    a, b = (compose_config(overrides) for overrides in planned.values())
    assert [folder.name for folder in planned] == ["a", "b"] == [Path(c.exp_dir).name for c in (a, b)]
    assert (a.adapter["name"], a.adapter["factor"], b.adapter["name"]) == ("stack", 2, "conv")
    assert (a.train.init_from, b.train.init_from) == ("", "w")
    assert {(c.train.steps, c.train.batch_size, c.seed) for c in (a, b)} == {(7, 4, 3)}


def test_without_a_warm_start_its_cells_are_left_out(tmp_path: Path) -> None:
    sweep = read_sweep(toy(tmp_path))
    assert [cell.name for cell in choose_cells(sweep, [], warm=False)] == ["a"]
    assert [cell.name for cell in choose_cells(sweep, ["b"], warm=True)] == ["b"]
    with pytest.raises(ConfigError, match="give --warm"):
        choose_cells(sweep, ["b"], warm=False)
    with pytest.raises(ConfigError, match="unknown cell 'c'"):
        choose_cells(sweep, ["c"], warm=True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["adapter.nothing=1"], "cell 'a' cannot be trained"),
        (["adapter=stak"], "cell 'a' cannot be trained"),
        (["cut=words"], "cell 'a' cannot be trained: cut is one of frames"),
        (["train.batch_size=0"], "cell 'a' cannot be trained: train.batch_size is at least 1"),
        (["train.steps=3"], "say --steps"),
        (["exp_dir=x"], "say --exp"),
        (["train.init_from=x"], "say --warm"),
    ],
)
def test_a_slip_is_told_before_anything_runs(tmp_path: Path, more: list[str], message: str) -> None:
    sweep = read_sweep(toy(tmp_path))
    with pytest.raises(ConfigError, match=message):
        plan(sweep, sweep.cells, tmp_path, steps=7, minutes=0, warm=None, more=[*MODELS, *more])
    assert [path.name for path in tmp_path.iterdir()] == ["toy.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps: 7", "", "cells and steps are needed"),
        ("about:", "abuot:", "a sweep has the keys"),
        ("name: b", "name: a", "two cells are called 'a'"),
        ("name: a", "name: a/b", "names a folder"),
        ("warm: true", "wram: true", "a cell has the keys"),
        ("adapter.factor=2", "train.steps=9", "train.steps, which is the same for all"),
        ("adapter.factor=2", "train.init_from=x", "train.init_from, which is the same for all"),
        ("steps: 7", "steps: [", "is not YAML"),
    ],
)
def test_what_is_no_sweep_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TOY
    with pytest.raises(DataError, match=message):
        read_sweep(toy(tmp_path, TOY.replace(old, new, 1)))


def test_a_budget_of_nothing_is_refused(tmp_path: Path) -> None:
    sweep = read_sweep(toy(tmp_path))
    for steps, minutes in ((0, 0.0), (1, -1.0)):
        with pytest.raises(ToolkitError, match="a budget is at least 1 step"):
            plan(sweep, sweep.cells, tmp_path, steps=steps, minutes=minutes, warm=None, more=[])


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_cells_of_egs_can_be_built(path: Path) -> None:
    sweep = read_sweep(path)
    shared: dict[str, Any] = {"steps": sweep.steps, "minutes": 0, "warm": Path("w")}
    planned = plan(sweep, sweep.cells, Path("exp"), **shared, more=["recipes=mtbi", "egs=mini/conf/demo"])
    for folder, overrides in planned.items():
        config = compose_config(overrides)
        with torch.device("meta"):
            adapter = ADAPTERS.build(config.adapter, 384, 576)
        assert config.cut == "frames" or isinstance(adapter, TimedAdapter), folder.name
        assert [p for p in adapter.parameters() if p.requires_grad], folder.name
    assert plan(sweep, sweep.cells[-1:], Path("exp"), **shared, more=["recipes=asr", "egs=mini/conf/demo"])


def test_the_adapters_are_swept() -> None:
    cells = {cell.name: cell for cell in read_sweep(ROOT / "egs/mini/sweeps/adapters.yaml").cells}
    swept = {override.split("=")[1] for cell in cells.values() for override in cell.overrides if "adapter=" in override}
    assert swept >= {"stack", "conv", "pool_linear", "qformer", "windowed_qformer", "cif", "ctc", "ctc_compress"}
    assert [name for name, cell in cells.items() if cell.warm] == ["ctc_warm"]
