"""The store of answers: the same file whoever filled it, in however many processes and after whatever interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence as Seq
from pathlib import Path
from threading import Event, Thread

import pytest

from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.journals import WHOLE, Part
from toolkit.errors import ConfigError

QUESTIONS = [
    Question(f"{'Say' * (i % 3 + 1)}: {{speech}}", f"text {'é' * i}\u2028", others=(("b", 0.0),) * (i % 2))
    for i in range(11)
]
SIZE = 3


def shout(questions: Seq[Question]) -> list[Answer]:
    """Answer so that the batch can be told from the answer: whoever is batched otherwise says something else."""
    return [
        Answer(f"{q.text.upper()} {i}/{len(questions)} {questions[0].text}", i != 1) for i, q in enumerate(questions)
    ]


def silent(questions: Seq[Question]) -> list[Answer]:
    raise AssertionError(f"asked again: {questions}")


def contents(folder: Path) -> bytes:
    """Return the bytes of a store of which everything is settled."""
    assert sorted(path.name for path in folder.iterdir()) == ["store.jsonl", "store.lock"]
    return (folder / "store.jsonl").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What one process writes that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    assert sum(AnswerStore(folder, 8).fill(QUESTIONS, shout, SIZE)) == len(QUESTIONS)
    return contents(folder)


def test_what_is_settled_is_a_row_a_line_as_ever(whole: bytes) -> None:
    rows = [json.loads(line) for line in whole.decode().split("\n")[:-1]]
    assert [set(row) - {"others"} for row in rows] == [{"key", "prompt", "text", "answer", "complete"}] * len(QUESTIONS)
    assert sum("others" in row for row in rows) == 5


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_interrupted_after_any_byte_and_resumed_is_uninterrupted(batches: int, whole: bytes, tmp_path: Path) -> None:
    first = tmp_path / "first"
    filling = AnswerStore(first, 8).fill(QUESTIONS, shout, SIZE)
    assert sum(next(filling) for _ in range(batches)) == batches * SIZE
    filling.close()  # type: ignore[attr-defined]
    journal = (first / "store.1.jsonl").read_bytes()
    assert journal.count(b"\n") == 2 * batches  # a claim and its rows, each time
    for length in range(0, len(journal) + 1, 7):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / "store.1.jsonl").write_bytes(journal[:length])
        store, done = AnswerStore(folder, 8), journal[:length].count(b"\n") // 2
        assert len(store.missing(QUESTIONS)) == len(QUESTIONS) - SIZE * done
        assert sum(store.fill(QUESTIONS, shout, SIZE)) == len(QUESTIONS) - SIZE * done
        assert contents(folder) == whole


def test_interrupted_while_it_settles_it_goes_on_and_asks_nothing(whole: bytes, tmp_path: Path) -> None:
    for length in range(0, len(whole) + 1, 11):
        folder = tmp_path / str(length)
        for part in (Part(1, 2), Part(2, 2)):
            list(AnswerStore(folder, 8).fill(QUESTIONS, shout, SIZE, part))
        (folder / "store.jsonl").write_bytes(whole[:length])
        list(AnswerStore(folder, 8).fill(QUESTIONS, silent, SIZE))
        assert contents(folder) == whole


def test_parts_answered_apart_are_the_whole_when_put_together(whole: bytes, tmp_path: Path) -> None:
    asked = 0
    for number in (1, 2, 3):
        store = AnswerStore(tmp_path / str(number), 8)
        expected = len(store.missing(QUESTIONS, SIZE, Part(number, 3)))
        assert sum(store.fill(QUESTIONS, shout, SIZE, Part(number, 3))) == expected
        assert list(store.fill(QUESTIONS, silent, SIZE, Part(number, 3))) == []
        asked += expected
        (path,) = (tmp_path / str(number)).glob("store.*.jsonl")
        path.rename(tmp_path / path.name)
    assert asked == len(QUESTIONS)
    for folder in map(str, (1, 2, 3)):
        (tmp_path / folder / "store.lock").unlink()
        (tmp_path / folder).rmdir()
    store = AnswerStore(tmp_path, 8)
    assert store.missing(QUESTIONS) == []
    store.settle(QUESTIONS)
    assert contents(tmp_path) == whole


def test_an_old_store_stays_valid_and_is_only_added_to(tmp_path: Path) -> None:
    rows = [{"key": q.key(8), "prompt": q.prompt, "text": q.text, "answer": "old", "complete": True} for q in QUESTIONS]
    old = "".join(json.dumps(row) + "\n" for row in rows[:5])
    (tmp_path / "store.jsonl").write_text(old + '{"key": "cut in the mid')
    store = AnswerStore(tmp_path, 8)
    assert store.get(QUESTIONS[4]) == Answer("old", True)
    assert sum(store.fill(QUESTIONS, shout, SIZE)) == len(QUESTIONS) - 5
    assert contents(tmp_path).startswith(old.encode())
    assert AnswerStore(tmp_path, 8).missing(QUESTIONS) == []


def test_two_at_the_same_questions_share_them(whole: bytes, tmp_path: Path) -> None:
    asked: list[str] = []
    begun, go_on = Event(), Event()

    def slow(questions: Seq[Question]) -> list[Answer]:
        begun.set()
        assert go_on.wait(60)
        asked.extend(q.text for q in questions)
        return shout(questions)

    def quick(questions: Seq[Question]) -> list[Answer]:
        asked.extend(q.text for q in questions)
        if len(asked) == len(QUESTIONS) - SIZE:
            go_on.set()  # all but what the other has claimed is answered
        return shout(questions)

    other = Thread(target=lambda: list(AnswerStore(tmp_path, 8).fill(QUESTIONS, slow, SIZE)))
    other.start()
    assert begun.wait(60)
    assert sum(AnswerStore(tmp_path, 8).fill(QUESTIONS, quick, SIZE)) == len(QUESTIONS)
    other.join()
    assert sorted(asked) == sorted(q.text for q in QUESTIONS)
    assert contents(tmp_path) == whole


PROGRAM = """
import json, os, sys, time
from pathlib import Path
from toolkit.data.answers import Answer, AnswerStore, Question
folder, log, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
first, last = map(int, sys.argv[4:])

def generate(questions):
    with open(log, "a") as file:
        file.write("".join(q.text + "\\n" for q in questions))
    time.sleep(seconds)
    return [Answer(q.text.upper(), True) for q in questions]

list(AnswerStore(folder, 8).fill([Question("Say: {speech}", f"text {i}") for i in range(first, last)], generate, 2))
"""


def start(folder: Path, log: Path, seconds: float, first: int, last: int) -> subprocess.Popen[bytes]:
    arguments = map(str, (folder, log, seconds, first, last))
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_processes_at_overlapping_questions_ask_none_twice(tmp_path: Path) -> None:
    folder, log = tmp_path / "answers", tmp_path / "log"
    running = [start(folder, log, 0.02, *span) for span in ((0, 30), (10, 40), (0, 40))]
    assert [process.wait(300) for process in running] == [0, 0, 0]
    assert sorted(log.read_text().splitlines()) == sorted(f"text {i}" for i in range(40))
    store = AnswerStore(folder, 8)
    assert all(store.get(Question("Say: {speech}", f"text {i}")) == Answer(f"TEXT {i}", True) for i in range(40))
    assert contents(folder).count(b"\n") == 40


def test_what_a_killed_process_had_claimed_is_answered_by_another(tmp_path: Path) -> None:
    folder, log = tmp_path / "answers", tmp_path / "log"
    dying = start(folder, log, 600, 0, 8)
    while not log.exists():
        assert dying.poll() is None
        time.sleep(0.05)
    questions = [Question("Say: {speech}", f"text {i}") for i in range(8)]
    Thread(target=lambda: (time.sleep(0.5), os.kill(dying.pid, signal.SIGKILL))).start()  # type: ignore[func-returns-value]
    assert sum(AnswerStore(folder, 8).fill(questions, shout, 2)) == 8
    dying.wait()
    assert AnswerStore(folder, 8).missing(questions) == []
    assert contents(folder).count(b"\n") == 8


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "1/2/3"])
def test_a_part_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"imitate\.shard is a part such as 2/4"):
        Part.parse(text, "imitate.shard")
    assert Part.parse("", "imitate.shard") == WHOLE
    assert Part.parse("2/4", "imitate.shard") == Part(2, 4)
