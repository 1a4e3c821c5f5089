"""Made-up answers: rows with every field, and files of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Row = dict[str, Any]
MakeRow = Callable[..., Row]
Write = Callable[[str, list[Row]], Path]


@pytest.fixture
def row() -> MakeRow:
    def make(id_: str, task: str, hypothesis: str, reference: str, **more: Any) -> Row:
        fields = {
            "id": id_, "task": task, "group": "seen_wording", "prompt": f"{task}: {{speech}}",
            "hypothesis": hypothesis, "reference": reference, "transcript": f"transcript of {id_}",
            "complete": True, "heard": id_, "choices": [], "kind": "statement",
        }  # fmt: skip
        return {**fields, **more}

    return make


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_rows(name: str, rows: list[Row]) -> Path:
        path = tmp_path / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return path

    return write_rows


@pytest.fixture
def systems(row: MakeRow, write: Write) -> Callable[..., dict[str, Path]]:
    """Files of all five systems: five tasks on six utterances, all different, in all groups."""
    groups = ("seen_wording", "held_out_wording", "held_out_task")
    ids = [f"utt{number}" for number in range(6)]
    others = dict(zip(ids, [*ids[1:], ids[0]], strict=True))

    def reply(task: str, id_: str) -> str:
        if task == "sentiment":
            return "It is positive." if int(id_[-1]) % 3 else "Negative!"
        return f"{task} {id_[-1] * 3} " + ("plum pear apple" if int(id_[-1]) % 2 else "rose lily daisy")

    def make(prefix: str = "", spoil: str = "kiwi", **more: Any) -> dict[str, Path]:
        def rows(system: str) -> list[Row]:
            made = []
            for id_ in ids:
                heard = others[id_] if system in ("deaf", "other") else id_
                for group in groups:
                    for task in ("title",) if group == "held_out_task" else ("transcribe", "reply", "sentiment"):
                        said = reply(task, heard)
                        if system in ("speech", "deaf", "cascade") and int(id_[-1]) % 2 and task != "sentiment":
                            said = said.replace("plum", spoil if system != "cascade" else "plumb")
                        choices = ["positive", "negative"] if task == "sentiment" else []
                        made.append(
                            row(
                                id_,
                                task,
                                said,
                                reply(task, id_),
                                group=group,
                                heard=heard,
                                choices=choices,
                                prompt=f"{task} as {group}: {{speech}}",
                                transcript=reply("transcribe", id_),
                                **more,
                            )
                        )
            return made

        return {
            system: write(f"{prefix}{system}", rows(system))
            for system in ("speech", "deaf", "text", "other", "cascade")
        }

    return make
