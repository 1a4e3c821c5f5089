"""A table's YAML: what it may say, what every cell is composed of, and that the tables in egs/ compose."""

from pathlib import Path

import pytest

from toolkit.errors import ConfigError, DataError
from toolkit.tables.cells import choose, plan_cells, with_warm
from toolkit.tables.claims import AtLeast, Chain
from toolkit.tables.spec import COLUMNS, find_spec, read_spec

ROOT = Path(__file__).resolve().parents[2]
MODELS = ["encoder.model=nowhere", "decoder.model=nowhere"]
TOY = """
about: a toy
shared: train.batch_size=4
steps: 7
minutes: 2
warm_start: {steps: 5, row: true}
plots: {hours: hours}
rows:
  - {name: a, recipe: asr, seeds: [1, 2], plot: {hours: 1}}
  - {name: b, recipe: blsp, overrides: train.learning_rate=1.0e-4, published: [{value: not public}]}
  - {name: fresh, recipe: asr, warm: false}
  - {name: c, recipe: cascade}
claims:
  - {chain: b > a, figures: [agreement.held_out_task]}
  - {row: b, figure: wer.seen_wording, at_least: 0.5, of: {row: a, figure: wer.seen_wording}}
"""


def toy(folder: Path, text: str = TOY) -> Path:
    (folder / "table.yaml").write_text(text)
    return folder / "table.yaml"


def test_a_table_is_read(tmp_path: Path) -> None:
    path = toy(tmp_path)
    assert find_spec(tmp_path) == path == find_spec(path)
    assert find_spec(tmp_path / "nowhere") is None
    spec = read_spec(path)
    assert [row.name for row in spec.rows] == ["a", "b", "fresh", "c", "warm_start"]
    assert spec.rows[-1].seeds == (1, 2)
    assert spec.columns == COLUMNS
    assert spec.claims == (
        Chain(("b", "a"), ("agreement.held_out_task",)),
        AtLeast("b", "wer.seen_wording", 0.5, "a", "wer.seen_wording"),
    )


def test_every_cell_has_the_same_budget_and_the_warm_start_of_its_seed(tmp_path: Path) -> None:
    cells = plan_cells(read_spec(toy(tmp_path)), Path("exp"), MODELS)
    assert list(cells) == ["warm_start.1", "a.1", "b.1", "fresh.1", "c.1", "warm_start.2", "a.2"]
    begins = {name: cell.config.train.init_from for name, cell in cells.items()}
    assert begins["a.1"] == begins["b.1"] == "exp/warm_start.1/checkpoint"
    assert begins["a.2"] == "exp/warm_start.2/checkpoint"
    assert begins["fresh.1"] == begins["c.1"] == begins["warm_start.1"] == ""
    assert {name: cell.job.after and cell.job.after.name for name, cell in cells.items() if cell.row in "abc"} == {
        "a.1": "warm_start.1", "b.1": "warm_start.1", "c.1": None, "a.2": "warm_start.2",
    }  # fmt: skip
    budgets = {name: (c.config.train.steps, c.config.train.max_minutes) for name, c in cells.items()}
    assert {budgets[name] for name in ("a.1", "a.2", "b.1", "fresh.1")} == {(7, 2.0)}
    assert (budgets["warm_start.1"], budgets["c.1"]) == ((5, 0.0), (0, 0.0))
    assert not cells["c.1"].trained
    assert cells["b.1"].config.train.learning_rate == 1e-4
    assert {cell.config.seed for cell in cells.values() if cell.name.endswith(".2")} == {2}
    assert "exp_dir=exp/a.1" not in cells["a.1"].settings


def test_steps_of_the_command_line_are_for_all_that_is_trained(tmp_path: Path) -> None:
    cells = plan_cells(read_spec(toy(tmp_path)), Path("exp"), [*MODELS, "train.steps=3"])
    assert {name: cell.config.train.steps for name, cell in cells.items() if name.endswith(".1")} == {
        "warm_start.1": 3, "a.1": 3, "b.1": 3, "fresh.1": 3, "c.1": 0,
    }  # fmt: skip


def test_rows_are_chosen_and_bring_their_warm_start(tmp_path: Path) -> None:
    spec = read_spec(toy(tmp_path))
    cells = plan_cells(spec, Path("exp"), MODELS)
    assert [cell.name for cell in choose(spec, cells, ["a"], [2])] == ["a.2"]
    assert [path.name for path in with_warm(cells, [cells["a.2"]])] == ["warm_start.2", "a.2"]
    assert [path.name for path in with_warm(cells, [cells["c.1"]])] == ["c.1"]
    with pytest.raises(ConfigError, match="unknown row 'd'"):
        choose(spec, cells, ["d"], [])
    with pytest.raises(ConfigError, match="no row that is named has a seed"):
        choose(spec, cells, ["b"], [2])


def test_a_warm_start_that_is_not_shown_is_trained_and_not_decoded(tmp_path: Path) -> None:
    spec = read_spec(toy(tmp_path, TOY.replace(", row: true", "")))
    cells = plan_cells(spec, Path("exp"), MODELS)
    assert cells["warm_start.1"].job.stages == ("prepare", "align", "encode", "train")
    assert "warm_start.1" not in [cell.name for cell in choose(spec, cells, [], [])]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps: 7\n", "", "rows and steps always"),
        ("about:", "abuot:", "a table has the keys"),
        ("name: b", "name: a", "two rows are called 'a'"),
        ("name: a", "name: a/b", "names a folder"),
        ("seeds: [1, 2]", "seeds: 3", "seeds is a list of whole numbers"),
        ("train.learning_rate=1.0e-4", "train.steps=9", "b sets train.steps, which is the same for all rows"),
        ("train.learning_rate=1.0e-4", "imitate.test_utterances=9", "b sets imitate.test_utterances, which is the sam"),
        ("train.learning_rate=1.0e-4", "seed=9", "b sets seed, which is the table's own: say it by `seeds`"),
        ("train.batch_size=4", "exp_dir=x", "shared sets exp_dir, which is the table's own: say it by --exp"),
        ("chain: b > a", "chain: b", "a chain is of two systems or more"),
        ("chain: b > a", "chain: b > x", "unknown row 'x'"),
        ("agreement.held_out_task", "agreement.nowhere", "unknown group of prompts 'nowhere'"),
        ("plot: {hours: 1}", "plot: {days: 1}", "unknown plot 'days'"),
        ("value: not public", "value: 2.5", "a published figure .2.5. needs its source"),
        ("steps: 7", "steps: [", "is not YAML"),
        ("steps: 7", "steps: 0", "a budget is at least 1 step"),
        ("name: c", "name: warm_start", "two rows are called 'warm_start'"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TOY
    with pytest.raises(DataError, match=message):
        read_spec(toy(tmp_path, TOY.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["adapter.nothing=1"], "'a' cannot be trained"),
        (["exp_dir=x"], "exp_dir is set by the table: say it by --exp"),
        (["seed=2"], "seed is set by the table: say it by `seeds` of the rows"),
    ],
)
def test_a_slip_of_the_command_line_is_told_before_anything_runs(tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_cells(read_spec(toy(tmp_path)), Path("exp"), [*MODELS, *more])


@pytest.mark.parametrize("path", sorted(ROOT.glob("egs/*/table.yaml")), ids=lambda path: path.parent.name)
def test_the_tables_of_egs_compose(path: Path) -> None:
    spec = read_spec(path)
    cells = plan_cells(spec, Path("exp"), [])
    assert len([cell for cell in cells.values() if cell.shown]) == sum(len(row.seeds) for row in spec.rows)
    trained = [cell for cell in cells.values() if cell.trained and cell.row != "warm_start"]
    assert {(cell.config.train.steps, cell.config.train.batch_size) for cell in trained} == {(spec.steps, 16)}


def test_no_number_is_printed_as_mtbi_s_own() -> None:
    for row in read_spec(ROOT / "egs/mini/table.yaml").rows:
        if row.recipe == "mtbi":
            assert [each.value for each in row.published] == ["not public"]
