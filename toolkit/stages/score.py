"""Stage: answers -> scores of one experiment, and the table of several.

<exp_dir>/decode/<split>/{speech,deaf,text,other,cascade}.jsonl -> <exp_dir>/{scores.json,report.html}
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

from rich.console import Group

from toolkit.config import KINDS, Config, require
from toolkit.errors import ConfigError, DataError
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.compute import score
from toolkit.scoring.markdown import write_results
from toolkit.scoring.normalisation import normaliser
from toolkit.scoring.report import write_report
from toolkit.scoring.results import Results, tabulate
from toolkit.scoring.scorecard import FILE, Scorecard, read_scorecard
from toolkit.scoring.terminal import terminal_summary
from toolkit.stages.paths import as_trained, hypotheses_path
from toolkit.stages.progress import say

SYSTEMS = ("speech", "deaf", "text", "other", "cascade")
REPORT_FACTOR = 4
"""the report shows so many times the worked examples of a table"""


def run(config: Config) -> Path:
    """Score the answers of `config.decode.split`; return the path of `scores.json`.

    Raises:
        DataError: there are no answers to the speech, or the systems' files do not fit together.
    """
    exp_dir, split = Path(require(config.exp_dir, "exp_dir")), config.decode.split
    files = find_answers(hypotheses_path(config, split, "speech").parent)
    check_scoring(config)
    card = score(
        files,
        normaliser_name=config.score.normaliser,
        resampling=Resampling(config.score.bootstrap),
        examples=REPORT_FACTOR * config.score.examples,
        metadata=about_experiment(as_trained(config), files),
    )
    path = exp_dir / FILE
    card.write(path)
    page = write_report(exp_dir, exp_dir.resolve().name, card)
    say(f"score: {path}")
    say(f"report, with training curves: {page}")
    return path


def check_scoring(config: Config) -> None:
    """Look at the options of scoring.

    Raises:
        ConfigError: a number is negative, or there is no such normaliser.
    """
    if config.score.bootstrap < 0 or config.score.examples < 0:
        raise ConfigError("score.bootstrap and score.examples must not be negative")
    normaliser(config.score.normaliser)


def table(exp_dirs: Seq[Path], out: Path, examples: int = 3) -> Results:
    """Gather the scores of several experiments into `out`/RESULTS.md and `out`/results.json.

    Args:
        exp_dirs: folders that `run` has scored, in the order of the rows; each is called by its name.
        out: folder to write to.
        examples: number of worked examples.

    Raises:
        ConfigError: two folders have one name.
        DataError: a folder has no scores, or the scores cannot be compared.
    """
    return write_results(out, _load(exp_dirs), examples)


def summary(exp_dirs: Seq[Path], examples: int = 3) -> Group:
    """Return the main table and worked examples of some scored experiments, to be printed on a terminal."""
    return terminal_summary(tabulate(_load(exp_dirs), examples))


def find_answers(folder: Path, stage: str = "decode") -> dict[str, Path]:
    """Find the answer files of the systems that `stage` has run: system -> file.

    Raises:
        DataError: there are no answers to the speech.
    """
    found = {system: folder / f"{system}.jsonl" for system in SYSTEMS if (folder / f"{system}.jsonl").is_file()}
    if "speech" not in found:
        raise DataError(f"there are no answers to score in {folder}: run `toolkit {stage}` first")
    return found


def _load(exp_dirs: Seq[Path]) -> dict[str, Scorecard]:
    cards: dict[str, Scorecard] = {}
    for exp_dir in exp_dirs:
        name = exp_dir.resolve().name
        if name in cards:
            raise ConfigError(f"two experiments are called '{name}': their rows could not be told apart")
        cards[name] = read_scorecard(exp_dir / FILE)
    return cards


def about_experiment(config: Config, files: dict[str, Path]) -> dict[str, Any]:
    """Tell which experiment the scores are of."""
    recognised = config.decode.hears == "recogniser"
    kinds = ("encoder", "decoder") if recognised else KINDS
    return {
        "split": config.decode.split,
        "seed": config.seed,
        **({"recogniser": config.decode.recogniser or config.encoder["model"]} if recognised else {}),
        "parts": {kind: getattr(config, kind) for kind in kinds},
        "cut": config.cut,
        "files": {system: str(path) for system, path in files.items()},
    }
