"""The task files of the benchmark: families, wordings, and the split into trained and held-out ones."""

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest
import yaml

from toolkit.data.tasks import Task, benchmark_requests, load_tasks
from toolkit.errors import ConfigError, DataError
from toolkit.rules import parse_rule

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "recipes" / "benchmark_tasks"
TASKS = load_tasks(FOLDER)
CUTS = [f"utt{i}" for i in range(200)]
FAMILIES = {
    "content": {"continue", "rewrite", "summarise", "title", "reply"},
    "understanding": {"sentiment", "topic", "intent", "question_or_statement", "keywords"},
    "transcription": {"transcribe"},
    "translation": {"translate_german"},
    "format": {"one_word", "capitals", "json", "max_words"},
}
"""family -> tasks that it must have"""
SAID = {
    "bullets": 'bullet|begins with "-"|"- " before each',
    "capitals": "capital|upper case|caps lock|letter big",
    "ends_with": "The end\\.",
    "json": r"JSON (object|list|array)|JSON.* keys? |\{\"",
    "lower_case": "small letters|lower case|(no|without) capitals?",
    "max_words": "(ten|10|under eleven|fewer than eleven) words",
    "no_commas": "comma",
    "one_word": r"\b(one|single) word",
    "starts_with": r"\bWell\b",
    "translate_french": "French|français",
    "translate_german": "German|Deutsch",
    "translate_spanish": "Spanish|español",
}
"""task -> what each of its wordings must say, in one of these ways: the rule that is checked, or the language"""


def plain(wording: str) -> str:
    """Strip what does not make a wording another one: capitals, punctuation, spaces."""
    return " ".join(re.sub(r"[^\w{}]+", " ", wording.lower()).split())


def place(wording: str) -> str:
    before, _, after = (part.strip(' "') for part in wording.partition("{speech}"))
    return "middle" if before and after else "last" if before else "first"


def test_every_family_has_its_tasks_and_some_that_are_never_trained() -> None:
    for family, wanted in FAMILIES.items():
        tasks = {name for name, task in TASKS.items() if task.family == family}
        assert tasks >= wanted
        assert any(TASKS[name].held_out for name in tasks), f"{family}: nothing measures generalisation to tasks"
        assert not all(TASKS[name].held_out for name in tasks)
    assert {task.family for task in TASKS.values()} == set(FAMILIES)
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(TASKS)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_task_is_asked_in_ten_ways_on_either_side(task: Task) -> None:
    sides = [task.testing] if task.held_out else [task.training, task.testing]
    for side in sides:
        assert len(side) >= 10
        assert {place(wording) for wording in side} == {"first", "middle", "last"}
        assert len({wording.split()[0] for wording in side}) >= (3 if task.target == "transcript" else 5)
    assert all(wording == wording.strip() for side in sides for wording in side)


def test_the_rule_of_the_file_splits_the_wordings() -> None:
    for name, task in TASKS.items():
        listed = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["wordings"]
        if task.held_out:
            assert (task.training, task.testing) == ((), tuple(listed))
        else:
            assert (task.training, task.testing) == (tuple(listed[::2]), tuple(listed[1::2]))


def test_no_wording_stands_twice() -> None:
    wordings = [wording for task in TASKS.values() for wording in (*task.training, *task.testing)]
    assert [w for w, n in Counter(map(plain, wordings)).items() if n > 1] == []
    assert all(wording.count("{speech}") == 1 and "{speech2}" not in wording for wording in wordings)


def test_a_model_trained_with_one_folder_may_be_tested_with_the_other() -> None:
    other = load_tasks(ROOT / "recipes" / "tasks")
    for one, two in ((TASKS, other), (other, TASKS)):
        trained = {plain(wording) for task in one.values() for wording in task.training}
        assert [w for task in two.values() for w in task.testing if plain(w) in trained] == []
        assert [name for name, task in two.items() if task.held_out and name in one and not one[name].held_out] == []


def test_what_an_answer_must_be_is_said() -> None:
    assert [task.name for task in TASKS.values() if bool(task.rule) != (task.family == "format")] == []
    assert all(parse_rule(task.rule) for task in TASKS.values() if task.rule)
    assert [task.name for task in TASKS.values() if task.target == "transcript"] == ["transcribe"]
    for task in TASKS.values():
        for wording in (*task.training, *task.testing) if task.choices else ():
            named = [choice for choice in task.choices if plain(choice) in plain(wording)]
            assert len(named) >= 2, f"{task.name}: {wording!r} does not say what to choose from"


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.rule or task.family == "translation"])
def test_every_wording_says_what_is_checked(name: str) -> None:
    wordings = (*TASKS[name].training, *TASKS[name].testing)
    assert [wording for wording in wordings if not re.search(SAID[name], wording, re.IGNORECASE)] == []


def test_the_table_is_not_stale() -> None:
    page = (FOLDER / "README.md").read_text()
    table = runpy.run_path(str(ROOT / "tools/task_table.py"))
    assert table["renewed"](page) == page, "run python tools/task_table.py"
    assert all(f"`{name}`" in page for name in TASKS)


@pytest.mark.parametrize("wordings", [1, 3, 0])
def test_the_benchmark_asks_as_many_wordings_as_it_is_told(wordings: int) -> None:
    requests = benchmark_requests(CUTS[:20], TASKS, wordings)
    assert len(set(requests)) == len(requests)
    count = Counter((r.cut, r.task, r.group) for r in requests)
    for name, task in TASKS.items():
        groups = {"seen_wording": task.training, "held_out_wording": task.testing}
        for group, asked in {"held_out_task": task.testing}.items() if task.held_out else groups.items():
            assert {count.pop((cut, name, group)) for cut in CUTS[:20]} == {wordings or len(asked)}
            assert {r.prompt for r in requests if (r.task, r.group) == (name, group)} <= set(asked)
    assert not count


def test_more_wordings_tasks_or_utterances_ask_the_same_and_others() -> None:
    few = set(benchmark_requests(CUTS[:10], {"reply": TASKS["reply"]}, 2))
    assert few < set(benchmark_requests(CUTS[:10], {"reply": TASKS["reply"]}, 3))
    assert few < set(benchmark_requests(CUTS[:10], TASKS, 2))
    assert few < set(benchmark_requests(CUTS, {"reply": TASKS["reply"]}, 2))


def test_all_wordings_are_asked_about_equally_often() -> None:
    requests = benchmark_requests(CUTS, TASKS, 3)
    for task in TASKS.values():
        asked = Counter(r.prompt for r in requests if r.task == task.name)
        for side in filter(None, (task.training, task.testing)):
            mean = 3 * len(CUTS) / len(side)
            assert all(0.5 * mean < asked[wording] < 1.5 * mean for wording in side)


def test_a_negative_number_of_wordings_is_refused() -> None:
    with pytest.raises(ConfigError, match="not in -1"):
        benchmark_requests(CUTS, TASKS, -1)


LIST = "wordings: ['a {speech}', 'b {speech}', 'c {speech}', 'd {speech}', 'e {speech}']"


def read(text: str, folder: Path) -> Task:
    (folder / "mine.yaml").write_text(f"name: mine\nfamily: b\n{text}")
    return load_tasks(folder)["mine"]


def test_appended_wordings_leave_the_split_as_it_is(tmp_path: Path) -> None:
    short = read(f"held_out_wordings: {{every: 3}}\n{LIST}", tmp_path)
    assert (short.training, short.testing) == (
        ("a {speech}", "b {speech}", "d {speech}", "e {speech}"),
        ("c {speech}",),
    )
    long = read(f"held_out_wordings: {{every: 3}}\n{LIST[:-1]}, 'f {{speech}}', 'g {{speech}}']", tmp_path)
    assert long.training == (*short.training, "g {speech}")
    assert long.testing == (*short.testing, "f {speech}")


def test_a_rule_is_passed_on_as_it_is(tmp_path: Path) -> None:
    assert read(f"rule: max_words=12\nheld_out: true\n{LIST}", tmp_path).rule == "max_words=12"
    assert read(f"held_out: true\n{LIST}", tmp_path).rule == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LIST, "split by held_out_wordings"),
        (f"held_out_wordings: {{every: 1}}\n{LIST}", "N of 2 or more"),
        (f"held_out_wordings: {{every: true}}\n{LIST}", "N of 2 or more"),
        (f"held_out_wordings: {{every: 2, from: 1}}\n{LIST}", "N of 2 or more"),
        (f"held_out_wordings: 2\n{LIST}", "N of 2 or more"),
        (f"held_out_wordings: {{every: 2}}\nheld_out: true\n{LIST}", "a held-out task has not"),
        (
            "held_out_wordings: {every: 2}\nwordings: {training: ['{speech}'], held_out: ['a {speech}']}",
            "or one list",
        ),
        (f"held_out_wordings: {{every: 6}}\n{LIST}", "has training and held-out wordings"),
        ("held_out_wordings: {every: 2}\nwordings: ['{speech}', '{speech}']", "both trained and held"),
        ("held_out: true\nwordings: [{answer: '{speech}'}]", "quotation marks"),
        (f"rule: 12\nheld_out: true\n{LIST}", "rule is a text"),
    ],
)
def test_a_broken_split_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        read(text, tmp_path)
    assert "mine.yaml" in str(error.value)
