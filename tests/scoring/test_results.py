from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from toolkit.errors import DataError
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.compute import score
from toolkit.scoring.layout import Cell, Column, figure
from toolkit.scoring.markdown import read_results, render_markdown, write_results
from toolkit.scoring.results import tabulate
from toolkit.scoring.scorecard import Scorecard
from toolkit.scoring.terminal import terminal_summary

Systems = Callable[..., dict[str, Path]]
QUICK = Resampling(50)


@pytest.fixture
def cards(systems: Systems) -> dict[str, Scorecard]:
    files = systems()
    worse = systems("blsp/", spoil="wrong wrong wrong wrong")
    shared = {name: files[name] for name in ("text", "other", "cascade")}
    return {
        "mtbi": score(files, resampling=QUICK, metadata={"seed": 1}),
        "blsp": score({**worse, **shared}, resampling=QUICK, metadata={"seed": 2}),
    }


def test_page_is_drawn_from_the_json(cards: dict[str, Scorecard], tmp_path: Path) -> None:
    write_results(tmp_path, cards)
    page = (tmp_path / "RESULTS.md").read_text()
    assert render_markdown(read_results(tmp_path / "results.json")) == page


def test_figures_of_page_and_json_are_the_same(cards: dict[str, Scorecard], tmp_path: Path) -> None:
    write_results(tmp_path, cards)
    page = (tmp_path / "RESULTS.md").read_text()
    shown = [
        [part.strip() for part in line.split(" | ")[1:]]
        for line in page.splitlines()
        if line.startswith("| ") and not line.startswith(("| system", "| ---"))
    ]
    tables = json.loads((tmp_path / "results.json").read_text())["tables"]
    cells = [cells for table in tables for _, cells in table["rows"]]
    assert len(shown) == len(cells) > 20
    for line, values in zip(shown, cells, strict=True):
        assert len(line) == len(values)
        for text, cell in zip(line, values, strict=True):
            figures = [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?", text.split(" (")[0])]
            assert figures == [cell[name] for name in ("value", "low", "high") if cell[name] is not None]


def test_figures_are_those_of_the_scorecards(cards: dict[str, Scorecard]) -> None:
    main = tabulate(cards).tables[0]
    assert [name for name, _ in main.rows] == [
        "mtbi", "blsp", "cascade", "topline (text LLM)", "mtbi, deaf", "blsp, deaf",
    ]  # fmt: skip
    titles = [column.title for column in main.columns]
    column = titles.index("agreement, held-out tasks ↑")
    assert main.columns[column].count == "n = 6 (6 utt.)"
    for line, name in ((0, "mtbi"), (1, "blsp")):
        found = cards[name].find("agreement", "speech", "held_out_task", "all")
        assert found is not None
        assert found.value is not None
        assert main.rows[line][1][column].value == pytest.approx(found.value, abs=0.05)


def test_missing_systems_are_dashes(systems: Systems) -> None:
    files = systems()
    card = score({name: files[name] for name in ("speech", "other")}, resampling=QUICK)
    page = render_markdown(tabulate({"asr": card}))
    assert "| cascade | – | – | – | – | – |" in page
    assert "| asr, deaf | – | – | – | – | – |" in page


def test_shared_systems_that_differ_are_shown_apart(cards: dict[str, Scorecard]) -> None:
    odd = replace(
        cards["blsp"],
        scores=tuple(replace(x, value=1.0) if x.system == "cascade" else x for x in cards["blsp"].scores),
    )
    names = [name for name, _ in tabulate({**cards, "blsp": odd}).tables[0].rows]
    assert names[2:5] == ["cascade (mtbi)", "cascade (blsp)", "topline (text LLM)"]


@pytest.mark.parametrize("what", ["questions", "normaliser", "agreement"])
def test_what_was_measured_otherwise_is_not_put_in_one_table(cards: dict[str, Scorecard], what: str) -> None:
    odd = replace(cards["blsp"], questions="x") if what == "questions" else cards["blsp"]
    odd = replace(odd, normaliser="x") if what == "normaliser" else odd
    odd = replace(odd, agreement="x") if what == "agreement" else odd
    with pytest.raises(DataError, match=f"'mtbi' and 'odd' cannot stand in one table, since their {what}"):
        tabulate({**cards, "odd": odd})
    with pytest.raises(DataError, match="no experiment"):
        tabulate({})


def test_page_holds_examples_definitions_and_origin(cards: dict[str, Scorecard]) -> None:
    page = render_markdown(tabulate(cards, 3))
    assert page.count("\n### ") == 3
    assert page.count("* answer to the speech, blsp: ") == 3
    assert page.count("* answer to the true transcript, topline (text LLM): ") == 3
    for words in ("100 (a - b) / (100 - b)", "EnglishTextNormalizer", "50 resamples", "jiwer", "seed 2"):
        assert words in page


def test_text_of_the_data_does_not_become_markdown(cards: dict[str, Scorecard]) -> None:
    example = replace(cards["mtbi"].examples[0], transcript="a | b\n# <b>*c*</b>")
    card = replace(cards["mtbi"], examples=(example,))
    assert r"* transcript: a \| b \# \<b\>\*c\*\</b\>" in render_markdown(tabulate({"x": card}))


def test_figure() -> None:
    assert figure(Cell(12.0, 10.1, 14.0, n=3, utterances=2), Column("x", "n = 3 (2 utt.)")) == "12.0 [10.1, 14.0]"
    assert figure(Cell(12.0, n=3, utterances=2, extra="1 unparsed"), Column("x")) == "12.0 (1 unparsed; n = 3 (2 utt.))"
    assert figure(Cell(7, n=3), Column("x", "same")) == "7"
    assert figure(Cell(None), Column("x")) == "–"


def test_terminal_summary_has_every_row(cards: dict[str, Scorecard]) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(terminal_summary(tabulate(cards)))
    text = console.export_text()
    for name in ("mtbi", "blsp", "cascade", "topline", "mtbi, deaf"):
        assert name in text
