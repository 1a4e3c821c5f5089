#!/usr/bin/env python3
"""The table of recipes/benchmark_tasks/README.md, made from the task files.

`python tools/task_table.py` writes it, `--check` fails if it is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from toolkit.data.tasks import Task, load_tasks  # noqa: E402
from tools import made_table  # noqa: E402

FOLDER = ROOT / "recipes/benchmark_tasks"
README = FOLDER / "README.md"
TOOL = "tools/task_table.py"
HEAD = ["family", "task", "trained", "training wordings", "held-out wordings", "answer"]


def answer(task: Task) -> str:
    """Say what is checked of an answer, or what it is compared with."""
    if task.rule:
        return f"rule `{task.rule}`"
    if task.choices:
        return f"one of {', '.join(task.choices)}"
    return {"llm": "free", "transcript": "the transcript"}[task.target]


def made() -> str:
    """Make the table: by family, what is trained before what is not."""
    tasks = sorted(load_tasks(FOLDER).values(), key=lambda task: (task.family, task.held_out, task.name))
    rows: list[tuple[object, ...]] = []
    for task in tasks:
        trained = "no" if task.held_out else "yes"
        rows.append((task.family, f"`{task.name}`", trained, len(task.training), len(task.testing), answer(task)))
    rows.append(
        (
            "all",
            f"{len(tasks)} tasks",
            f"{sum(not task.held_out for task in tasks)} tasks",
            sum(len(task.training) for task in tasks),
            sum(len(task.testing) for task in tasks),
            "",
        )
    )
    return made_table.table(HEAD, rows)


def renewed(page: str) -> str:
    """Return the page with its table made anew."""
    return made_table.renewed(page, TOOL, made())


if __name__ == "__main__":
    sys.exit(made_table.main(README, TOOL, __doc__ or "", renewed))
