"""Systems whose behaviour is known get exactly the scores they must.

Their answers are those of functions, asked with real requests and written as decoding writes them. The text LLM here
gives every utterance answers in characters of its own, so that answers about two utterances have nothing in common.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from toolkit.data.answers import Answer
from toolkit.data.tasks import Request, Task, benchmark_requests
from toolkit.errors import DataError, UnknownNameError
from toolkit.scoring.behaviour import Gap, Known, read_kept, write_kept
from toolkit.scoring.bench_page import PAGE, write_benchmark
from toolkit.scoring.bench_tables import tabulate_benchmark
from toolkit.scoring.benchmark import benchmark
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.layout import turned
from toolkit.scoring.scorecard import ALL, Scorecard, read_scorecard
from toolkit.scoring.terminal import draw
from toolkit.stages.hypotheses import Row, other_of, write_rows
from toolkit.types import Example

SEEN, HELD, NEW = "seen_wording", "held_out_wording", "held_out_task"
SAID = {
    "u0": "please open the window", "u1": "my train is late", "u2": "this soup is cold", "u3": "what a lovely day",
}  # fmt: skip
OTHER = other_of(list(SAID))
REFUSAL = "I'm sorry, but I can't help with that."


def task(name: str, family: str, training: list[str], testing: list[str], **more: str | tuple[str, ...]) -> Task:
    given = {"target": "llm", "choices": (), "rule": "", **more}
    slots = tuple(f"{words}: {{speech}}" for words in training), tuple(f"{words}: {{speech}}" for words in testing)
    return Task(name, family, not training, **given, training=slots[0], testing=slots[1])  # type: ignore[arg-type]


TASKS = {
    known.name: known
    for known in (
        task("reply", "content", ["Reply", "Answer"], ["Respond", "Say something"]),
        task("mood", "understanding", ["Good or bad"], ["Bad or good"], choices=("good", "bad")),
        task("title", "content", [], ["Title"]),
        task("shout", "form", [], ["Shout"], rule="capitals"),
        task("transcribe", "transcription", ["Repeat"], ["Echo"], target="transcript"),
    )
}
FAMILIES = {name: known.family for name, known in TASKS.items()}
Respond = Callable[[Request, str], str]
"""What is asked, and the utterance that is heard -> the answer."""


def mark(utterance: str, number: int) -> str:
    """Return a character that is of this utterance and number alone."""
    return chr(0x4E00 + 100 * int(utterance[1]) + number)


def text_llm(request: Request, heard: str) -> str:
    """Answer as the text LLM does to the transcript of what is heard."""
    if request.task == "transcribe":
        return SAID[heard]
    if request.task == "mood":
        return "It is good." if heard in ("u0", "u1") else "It is bad."
    if request.task == "shout":
        return 4 * "ABCD"[int(heard[1])]
    if request.task == "title":
        return SAID[heard] if heard == "u0" else mark(heard, 9)
    # Under "Answer" another thing than under "Reply"; under "Respond" half of it; under "Say something" the same.
    ends = {"Reply": (0, 1), "Answer": (2, 3), "Respond": (0, 4), "Say something": (0, 1)}
    return "".join(mark(heard, number) for number in ends[request.prompt.partition(":")[0]])


def prompt_blind(request: Request, heard: str) -> str:
    """Answer every wording of a task as if it were the first."""
    first = (TASKS[request.task].training or TASKS[request.task].testing)[0]
    return text_llm(replace(request, prompt=first), heard)


SYSTEMS: dict[str, Respond] = {
    "perfect": text_llm,
    "deaf": lambda request, heard: text_llm(request, OTHER[heard]),
    "transcriber": lambda request, heard: SAID[heard],
    "refuser": lambda request, heard: REFUSAL,
    "prompt_blind": prompt_blind,
}


def answer(folder: Path, system: str, respond: Respond, heard: dict[str, str]) -> Path:
    """Ask a system everything and write its rows."""
    rows = []
    for request in benchmark_requests(list(SAID), TASKS, 0):
        example, own = Example(request.cut, 1.0, SAID[request.cut]), TASKS[request.task]
        truth, given = (
            Answer(text, True) for text in (text_llm(request, request.cut), respond(request, heard[request.cut]))
        )
        rows.append(Row.of(request, example, own, truth, given, heard[request.cut]))
    write_rows(folder / f"{system}.jsonl", rows)
    return folder / f"{system}.jsonl"


def bench(name: str, folder: Path, gaps: list[Gap] | None = None, known: list[Known] | None = None) -> Scorecard:
    """Score one of the systems as the model that hears."""
    itself = {utterance: utterance for utterance in SAID}
    files = {
        "speech": answer(folder, "speech", SYSTEMS[name], itself),
        "text": answer(folder, "text", text_llm, itself),
        "other": answer(folder, "other", text_llm, OTHER),
    }
    return benchmark(
        files, FAMILIES, gaps=gaps or [], knowledge=known or [], normaliser_name="basic", resampling=Resampling(50)
    )


def value(card: Scorecard, metric: str, group: str = ALL, about: str = ALL, system: str = "speech") -> float | None:
    found = card.find(metric, system, group, about)
    assert found is not None, (metric, system, group, about)
    return found.value


def over(card: Scorecard, group: str, about: str) -> tuple[float | None, ...]:
    return tuple(value(card, f"agreement_{what}", group, about) for what in ("mean", "spread", "worst"))


def gaps_of(kl: float, system: str = "speech") -> list[Gap]:
    return [
        Gap(system, request.cut, request.task, request.group, request.prompt, kl, 2)
        for request in benchmark_requests(list(SAID), TASKS, 0)
    ]


def test_the_perfect_system(tmp_path: Path) -> None:
    card = bench("perfect", tmp_path, gaps_of(0.0))
    for group, about in ((SEEN, ALL), (SEEN, "reply"), (HELD, ALL), (HELD, "reply")):
        assert over(card, group, about)[0] == over(card, group, about)[2] == 100
    assert over(card, HELD, "reply") == (100, 0, 100)
    assert over(card, NEW, ALL)[0] == 100
    assert value(card, "agreement_kept") == 100
    assert value(card, "wer_mean", HELD, "transcribe") == value(card, "wer", SEEN, "transcribe") == 0
    assert value(card, "accuracy", HELD, "mood") == 100
    assert value(card, "compliance") == 100
    assert value(card, "kl") == 0
    for fault in ("empty", "loops", "cut_off", "refusals", "over_long"):
        assert value(card, fault) == 0
    assert card.metadata["unparsed"] == []
    found = card.find("agreement_mean", "speech", HELD, "reply")
    assert found is not None
    assert (found.low, found.high, found.n, found.utterances) == (100, 100, 8, 4)


def test_the_deaf_system_is_the_zero_of_the_scale(tmp_path: Path) -> None:
    card = bench("deaf", tmp_path)
    for group in (SEEN, HELD):
        assert over(card, group, "reply") == (0, 0, 0)
        assert value(card, "agreement", group) == value(card, "agreement_mean", group) == 0
    assert over(card, NEW, "title")[0] == 0
    kept = card.find("agreement_kept", "speech", ALL, ALL)
    assert kept is not None
    assert kept.value is None
    assert "nothing is above zero" in kept.note
    # It shouts as it is told to, about something else: a constraint needs no listening.
    assert value(card, "compliance") == 100
    right = [
        text_llm(Request(u, "mood", SEEN, ""), u) == text_llm(Request(u, "mood", SEEN, ""), OTHER[u]) for u in SAID
    ]
    assert value(card, "accuracy", SEEN, "mood") == 100 * np.mean(right) < 100


def test_the_system_that_always_transcribes(tmp_path: Path) -> None:
    card = bench("transcriber", tmp_path)
    assert value(card, "wer_mean", SEEN, "transcribe") == value(card, "wer_worst", HELD, "transcribe") == 0
    # Of four titles one is the transcript itself and three have nothing of it: a = 25, b = 0.
    assert over(card, NEW, "title") == (25, None, 25)
    assert over(card, SEEN, "reply") == (0, 0, 0)
    assert value(card, "compliance") == value(card, "compliance", NEW, "shout") == 0
    assert value(card, "compliance", system="text") == 100
    assert value(card, "accuracy", HELD, "mood") == 0
    unparsed = [shown["answer"] for shown in card.metadata["unparsed"]]
    assert sorted(set(unparsed)) == sorted(SAID.values())


def test_the_system_that_always_refuses(tmp_path: Path) -> None:
    card = bench("refuser", tmp_path)
    assert value(card, "refusals") == 100
    assert value(card, "refusals", system="text") == 0
    for group in (SEEN, HELD):
        found = card.find("accuracy", "speech", group, "mood")
        assert found is not None
        assert (found.value, found.n, found.details) == (0, 4, {"unparsed": 4, "left_out": 0})
    assert value(card, "compliance") == 0
    assert {shown["answer"] for shown in card.metadata["unparsed"]} == {REFUSAL}
    page = write_and_read(tmp_path, card)
    assert "0.0 [0.0, 0.0] (4 unparsed)" in page
    unparsed, broken = (page.split(f"## {title}")[1].split("\n## ")[0] for title in ("Unparsed", "Broken"))
    assert unparsed.count(f"“{REFUSAL}” (the text LLM: “It is") == 8
    assert broken.count("mtbi, shout, u") == broken.count(f"“{REFUSAL}” (the text LLM: “") == 4


def test_what_is_cut_off_and_what_the_text_llm_leaves_open_are_told_apart_from_wrong(tmp_path: Path) -> None:
    """A rule broken at the length limit is said to be; where the text LLM names no choice nobody is wrong."""
    files = {system: answer(tmp_path, system, text_llm, {u: u for u in SAID}) for system in ("speech", "text")}
    for system, path in files.items():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            if row["id"] == "u0" and row["task"] == "mood":
                row.update(reference="Well.", hypothesis="Well." if system == "text" else "Hm.")
            if row["id"] in ("u0", "u1") and row["task"] == "shout" and system == "speech":
                row.update(hypothesis="aaaa", complete=row["id"] == "u0")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    card = benchmark(files, FAMILIES, normaliser_name="basic", resampling=Resampling(50))
    found = card.find("compliance", "speech", ALL, ALL)
    assert found is not None
    assert (found.value, found.details) == (50, {"count": 2, "cut_off": 1})
    page = write_and_read(tmp_path, card)
    assert re.search(r"\| mtbi \|.* 50\.0 \[[^|]*\] \(1 cut off\) \|", page)
    broken = page.split("## Broken constraints")[1].split("\n## ")[0]
    assert sorted(re.findall(r"shout, (u\d): “aaaa”(, cut off,)? \(", broken)) == [("u0", ""), ("u1", ", cut off,")]
    unparsed = page.split("## Unparsed answers")[1].split("\n## ")[0]
    assert "Hm." not in unparsed
    assert unparsed.count("topline (text LLM), mood, u0: “Well.” to “") == 2
    assert card.metadata["unparsed"] == []


def test_the_page_defines_nothing_that_it_does_not_show(tmp_path: Path) -> None:
    page = write_and_read(tmp_path, bench("perfect", tmp_path))
    assert "**Examples.**" not in page
    assert "**Constraints.**" in page


def test_the_system_that_is_blind_to_the_prompt(tmp_path: Path) -> None:
    card = bench("prompt_blind", tmp_path)
    # Under "Reply" it is right and under "Answer" quite wrong; under "Respond" half the characters are right and none
    # of the pairs, whose mean is 25; under "Say something" it happens to be right.
    mean, spread, worst = over(card, SEEN, "reply")
    assert (mean, worst) == (50, 0)
    assert spread == pytest.approx(100 / np.sqrt(2))
    mean, spread, worst = over(card, HELD, "reply")
    assert mean == pytest.approx(62.5)
    assert spread == pytest.approx(75 / np.sqrt(2))
    assert worst == pytest.approx(25)
    names = {group: card.find("agreement_worst", "speech", group, "reply") for group in (SEEN, HELD)}
    assert {group: score and score.wording for group, score in names.items()} == {
        SEEN: "Answer: {speech}", HELD: "Respond: {speech}",
    }  # fmt: skip
    each = {
        x.wording: x.value
        for x in card.scores
        if (x.metric, x.system, x.task) == ("agreement_wording", "speech", "reply")
    }
    assert each == pytest.approx(
        {"Reply: {speech}": 100, "Answer: {speech}": 0, "Respond: {speech}": 25, "Say something: {speech}": 100}
    )
    # Over both tasks of the group: mood is as good as can be, and has no spread, since it has one wording.
    assert over(card, HELD, ALL)[0] == pytest.approx((62.5 + 100) / 2)
    assert over(card, HELD, ALL)[1] == pytest.approx(75 / np.sqrt(2))
    assert value(card, "agreement_kept") == pytest.approx(100 * (62.5 + 100) / (50 + 100))


def test_held_out_tasks_are_scored_by_family(tmp_path: Path) -> None:
    card = bench("transcriber", tmp_path)
    assert over(card, NEW, "family content")[0] == 25
    assert over(card, NEW, "family form")[0] == 0
    assert over(card, NEW, ALL)[0] == 12.5


def test_gap_and_knowledge_are_rates_of_their_rows(tmp_path: Path) -> None:
    requests = benchmark_requests(list(SAID), TASKS, 0)
    known = [
        Known(r.cut, r.task, r.group, r.prompt, "a", "a" if i else "b", bool(i)) for i, r in enumerate(requests[:4])
    ]
    card = bench("perfect", tmp_path, [*gaps_of(0.5), *gaps_of(3.0, "deaf")], known)
    found = card.find("kl", "speech", NEW, "title")
    assert found is not None
    assert (found.value, found.n, found.utterances, found.details, found.unit) == (
        0.25, 4, 4, {"tokens": 8}, "nats per token",
    )  # fmt: skip
    assert value(card, "kl", system="deaf") == 1.5
    found = card.find("knowledge", "speech", ALL, ALL)
    assert found is not None
    assert (found.value, found.n, found.details) == (75, 4, {"same": 3})
    assert "| 0.250 [0.250, 0.250] |" in write_and_read(tmp_path, card)


def write_and_read(folder: Path, card: Scorecard) -> str:
    write_benchmark(folder, "mtbi", card)
    return (folder / PAGE).read_text()


def test_the_page_has_its_tables_and_every_figure_its_n(tmp_path: Path) -> None:
    card = bench("prompt_blind", tmp_path, gaps_of(0.5))
    page = write_and_read(tmp_path, card)
    assert page.startswith("# Benchmark: mtbi\n")
    for heading in (
        "Agreement over held-out wordings, by task: mtbi", "Worst wordings", "Constraints kept, by task",
        "Behaviour gap, nats per token", "Accuracy on closed tasks", "Faulty answers", "Unparsed answers",
        "Definitions", "Word error rate over wordings", "Made with",
    ):  # fmt: skip
        assert f"\n## {heading}\n" in page
    assert r"* mtbi, held-out wordings, reply: agreement 25.0 under “Respond: {speech}”" in page
    assert "shout (capitals), held-out tasks" in page
    main = page.split("\n## ")[0].splitlines()
    head = next(line for line in main if line.startswith("| system"))
    assert re.findall(r"\| ([^|]*?)<br>n = (\d+)", head)[:2] == [
        ("seen wordings, mean ↑", "12"), ("held-out wordings, mean ↑", "12"),
    ]  # fmt: skip
    assert [line.split(" | ")[0] for line in main if line.startswith("| ")][2:] == ["| mtbi", "| topline (text LLM)"]


def test_the_main_table_fits_a_terminal_when_it_is_turned(tmp_path: Path) -> None:
    card = bench("prompt_blind", tmp_path, gaps_of(0.5))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(draw(turned(tabulate_benchmark(card, "mtbi").tables[0])))
    text = console.export_text()
    assert "…" not in text
    for words in ("measure", "mtbi", "topline", "spread ↓", "0.250", "[0.250, 0.250]", "n = 40"):
        assert words in text


def test_the_scorecard_survives_its_file(tmp_path: Path) -> None:
    card = bench("prompt_blind", tmp_path, gaps_of(0.5))
    card.write(tmp_path / "scores.json")
    again = read_scorecard(tmp_path / "scores.json")
    again.write(tmp_path / "again.json")
    assert (tmp_path / "scores.json").read_bytes() == (tmp_path / "again.json").read_bytes()
    plain = json.loads((tmp_path / "scores.json").read_text())["scores"]
    # Only what is of one wording has the key: other scorecards are as they were.
    assert {row["metric"].split("_")[-1] for row in plain if "wording" in row} == {"wording", "worst"}
    assert write_and_read(tmp_path, again) == write_and_read(tmp_path, card)


def test_an_unknown_rule_a_strange_gap_and_a_task_without_family_are_refused(tmp_path: Path) -> None:
    stranger = [Gap("speech", "u0", "reply", SEEN, "Sing: {speech}", 1.0, 1)]
    with pytest.raises(DataError, match="of other questions than the answers"):
        bench("perfect", tmp_path, stranger)
    files = {"speech": tmp_path / "speech.jsonl"}
    with pytest.raises(DataError, match="no family is known of the tasks shout"):
        benchmark(files, {name: family for name, family in FAMILIES.items() if name != "shout"})
    text = files["speech"].read_text().replace('"rule": "capitals"', '"rule": "capital"')
    files["speech"].write_text(text)
    with pytest.raises(UnknownNameError, match="Did you mean 'capitals'"):
        benchmark(files, FAMILIES)


def test_rows_without_a_rule_are_written_as_ever() -> None:
    request = benchmark_requests(["u0"], TASKS, 0)[0]
    row = Row.of(request, Example("u0", 1.0, "said"), TASKS["reply"], Answer("a", True), Answer("b", True), "u0")
    assert list(json.loads(row.line())) == [
        "id", "task", "group", "prompt", "hypothesis", "reference", "transcript", "complete", "heard", "choices",
    ]  # fmt: skip
    assert json.loads(replace(row, rule="json").line())["rule"] == "json"


def test_kept_rows_survive_their_file_and_broken_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "gap.jsonl"
    assert read_kept(path, Gap) == []
    rows = [Gap("speech", "u0", "reply", SEEN, "a\u2028b", 0.5, 2)]
    write_kept(path, rows)
    assert read_kept(path, Gap) == rows
    with pytest.raises(DataError, match=r"gap.jsonl:1 is no row of the benchmark"):
        read_kept(path, Known)
