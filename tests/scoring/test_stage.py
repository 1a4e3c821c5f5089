from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from toolkit.config import Config
from toolkit.errors import ConfigError, DataError
from toolkit.scoring.scorecard import read_scorecard
from toolkit.stages import score as stage

Systems = Callable[..., dict[str, Path]]


@pytest.fixture
def configs(systems: Systems, tmp_path: Path) -> list[Config]:
    """Two experiments on one data folder."""
    made: list[Config] = []
    for name, spoil in (("asr", "kiwi"), ("mtbi", "lemon")):
        files = systems(f"{name}-", spoil)
        decoded = tmp_path / name / "decode/test"
        decoded.mkdir(parents=True)
        for system, path in files.items():
            shutil.copy(path, decoded / f"{system}.jsonl")
        config = Config(exp_dir=str(tmp_path / name), data_dir=str(tmp_path / "data"), seed=len(made) + 1)
        config.encoder = config.adapter = config.decoder = config.interleaver = config.loss = {"name": "x"}
        config.score.bootstrap = 50
        made.append(config)
    return made


def test_run_writes_scores_and_report(configs: list[Config]) -> None:
    path = stage.run(configs[0])
    assert path == Path(configs[0].exp_dir) / "scores.json"
    card = read_scorecard(path)
    assert {x.system for x in card.scores} == {"speech", "deaf", "text", "other", "cascade"}
    assert card.metadata["seed"] == 1
    assert card.metadata["parts"]["adapter"] == {"name": "x"}
    assert len(card.examples) == 4 * configs[0].score.examples
    assert (path.parent / "report.html").is_file()
    assert not list(path.parent.glob("*.tmp"))


def test_table_and_summary_of_several_experiments(configs: list[Config], tmp_path: Path) -> None:
    folders = [stage.run(config).parent for config in configs]
    results = stage.table(folders, tmp_path / "out")
    # Training seeds differ, but the shared systems do not, down to their intervals.
    assert [name for name, _ in results.tables[0].rows] == [
        "asr", "mtbi", "cascade", "topline (text LLM)", "asr, deaf", "mtbi, deaf",
    ]  # fmt: skip
    assert (tmp_path / "out/RESULTS.md").read_text().startswith("# Results")
    assert list(json.loads((tmp_path / "out/results.json").read_text())["experiments"]) == ["asr", "mtbi"]
    console = Console(record=True, file=io.StringIO())
    console.print(stage.summary(folders))
    assert "mtbi" in console.export_text()


def test_folders_of_one_name_are_refused(configs: list[Config], tmp_path: Path) -> None:
    folder = stage.run(configs[0]).parent
    with pytest.raises(ConfigError, match="two experiments are called 'asr'"):
        stage.table([folder, folder], tmp_path)
    with pytest.raises(DataError, match="run `toolkit score` for that experiment first"):
        stage.table([tmp_path / "mtbi"], tmp_path)


def test_missing_answers_say_which_stage_to_run(configs: list[Config], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "asr/decode")
    with pytest.raises(DataError, match="run `toolkit decode` first"):
        stage.run(configs[0])


def test_a_system_that_was_not_run_is_left_out(configs: list[Config], tmp_path: Path) -> None:
    (tmp_path / "asr/decode/test/cascade.jsonl").unlink()
    card = read_scorecard(stage.run(configs[0]))
    assert "cascade" not in {x.system for x in card.scores}


def test_negative_numbers_are_refused(configs: list[Config]) -> None:
    configs[0].score.bootstrap = -1
    with pytest.raises(ConfigError, match="must not be negative"):
        stage.run(configs[0])
