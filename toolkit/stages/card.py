"""The data card: what the imitation data of a recipe are, to be read by people (card.md) and programs (card.json).

It stands beside the answers, which recipes share, and tells of the recipe that was asked for last.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any

from toolkit.config import Config
from toolkit.data.cuts import replacing
from toolkit.data.tasks import Request, Task
from toolkit.data.tokenization import ChatTokenizer
from toolkit.stages.targets import Joined
from toolkit.types import Example

EXAMPLES = 5
"""of each task"""
DROPS = 2
"""examples of each filter"""
_GROUPS = {"seen_wording": "seen", "held_out_wording": "held-out wording", "held_out_task": "held-out task"}
_LENGTHS = ("mean", "quartile1", "median", "quartile3", "longest")


@dataclass(frozen=True)
class Subject:
    """What a card tells of, beside the configuration."""

    key: str
    """fingerprint of the LLM"""
    tokenizer: ChatTokenizer
    tasks: Mapping[str, Task]
    examples: Mapping[str, Example]
    """the training utterances, by id"""
    joined: Joined
    asked: Mapping[str, Seq[Request]]
    """split -> what its utterances are asked"""


def write_card(config: Config, subject: Subject, folder: Path) -> Path:
    """Write `card.md` and `card.json` into a folder; a card that tells the same keeps its date. Returns the former."""
    card, paths = describe(config, subject), (folder / "card.json", folder / "card.md")
    if all(path.exists() for path in paths):
        before = json.loads(paths[0].read_text(encoding="utf-8"))
        if {key: value for key, value in before.items() if key != "made"} == card:
            return paths[1]
    card = {"made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), **card}
    for path, text in zip(paths, (json.dumps(card, ensure_ascii=False, indent=1) + "\n", markdown(card)), strict=True):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths[1]


def about_llm(config: Config) -> dict[str, Any]:
    """Return what a card calls the LLM that answers; its weights are known by their fingerprint alone."""
    chat = {"system": config.system, "speech_marker": config.speech_marker, "text_marker": config.text_marker}
    llm = {"model": config.decoder["model"], "dtype": config.decoder.get("dtype"), "engine": config.imitate.engine}
    return {**llm, **chat}


def describe(config: Config, subject: Subject) -> dict[str, Any]:
    """Return what the card tells, as plain values."""
    joined, asked = subject.joined, subject.asked
    utterances = subject.examples.values()
    wordings = {wording for task in subject.tasks.values() for wording in task.training}
    trained = sorted({request.task for request in asked["train"]})
    return {
        **about_llm(config),
        "key": subject.key,
        "max_new_tokens": config.imitate.max_new_tokens,
        "utterances": len(utterances),
        "hours": round(sum(example.duration for example in utterances) / 3600, 4),
        "requests": len(asked["train"]),
        "prompts": len({request.prompt for request in asked["train"]}),
        "wordings": len({request.prompt for request in asked["train"]} & wordings),
        "kept": len(joined.pairs),
        "empty": joined.empty,
        "filters": list(config.imitate.filters),
        "dropped": {name: dict(sorted(joined.drops.get(name, {}).items())) for name in config.imitate.filters},
        "top_k": config.imitate.top_k,
        "asked": {split: _by_group(requests) for split, requests in asked.items()},
        "tasks": {name: _task(subject, name) for name in trained},
        "drop_examples": {
            name: [
                {"id": request.cut, "task": request.task, "prompt": request.prompt, "answer": answer.text}
                for request, filter_, answer in joined.dropped
                if filter_ == name
            ][:DROPS]
            for name in joined.drops
        },
    }


def _by_group(requests: Seq[Request]) -> dict[str, dict[str, int]]:
    counts = Counter((request.group, request.task) for request in requests)
    groups = [group for group in _GROUPS if any(group == named for named, _ in counts)]
    return {group: {task: n for (named, task), n in sorted(counts.items()) if named == group} for group in groups}


def _task(subject: Subject, name: str) -> dict[str, Any]:
    mine = [(request, example) for request, example in subject.joined.pairs if request.task == name]
    spoken = sorted(mine, key=lambda pair: (pair[0].cut, pair[0].prompt))
    shown = [spoken[i * len(spoken) // EXAMPLES] for i in range(EXAMPLES)] if len(spoken) > EXAMPLES else spoken
    return {
        "family": subject.tasks[name].family,
        "target": subject.tasks[name].target,
        "kept": len(mine),
        "cut": sum(not example.response_complete for _, example in mine),
        "words": _lengths([len(example.response.split()) for _, example in mine]),
        "tokens": _lengths([len(subject.tokenizer.encode(example.response)) for _, example in mine]),
        "examples": [
            {
                "id": request.cut,
                "prompt": request.prompt,
                "transcript": " | ".join(said.transcript for said in example.utterances),
                "answer": example.response,
                "complete": example.response_complete,
            }
            for request, example in shown
        ],
    }


def _lengths(counts: Seq[int]) -> dict[str, float]:
    """Return mean, quartiles and the longest, each 0 where there is nothing."""
    if not counts:
        return dict.fromkeys(_LENGTHS, 0.0)
    quarters = quantiles(counts, method="inclusive") if len(counts) > 1 else [float(counts[0])] * 3
    return dict(zip(_LENGTHS, [round(fmean(counts), 2), *quarters, float(max(counts))], strict=True))


def markdown(card: Mapping[str, Any]) -> str:
    """Lay a card out for reading."""
    cut = sum(task["cut"] for task in card["tasks"].values())
    dropped = sum(sum(tasks.values()) for tasks in card["dropped"].values())
    filters = ", ".join(card["filters"]) or "none"
    teacher = f"its {card['top_k']} likeliest tokens at each position are kept" if card["top_k"] else "not kept"
    lines = [
        "# Imitation data",
        "",
        f"What `{card['model']}` answers to the transcripts of {card['utterances']:,} training utterances "
        f"({card['hours']:.2f} hours of speech), made {card['made']}.",
        "",
        f"* **{card['requests']:,} requests**: {card['prompts']:,} different prompts, {card['wordings']:,} of them as "
        "the task files have them",
        f"* **{card['kept']:,} are learnt**; {dropped:,} dropped by filters, {card['empty']:,} with an empty answer",
        f"* {cut:,} of those learnt were cut at {card['max_new_tokens']} tokens: no end is trained after them",
        f"* filters: {filters}; the teacher's distribution: {teacher}",
        f"* fingerprint of the LLM and its chat: `{card['key']}`; system prompt: {_system(card['system'])}",
        "",
        "## What is learnt",
        "",
        "Lengths are mean (quartiles; longest).",
        "",
        *_table(
            ("task", "family", "target", "learnt", "cut", "words", "tokens"),
            [
                (name, task["family"], _TARGETS[task["target"]], task["kept"], task["cut"],
                 _length(task["words"]), _length(task["tokens"]))
                for name, task in card["tasks"].items()
            ],
        ),
        "",
        "## What is asked",
        "",
        *_asked(card["asked"]),
    ]  # fmt: skip
    if card["filters"]:
        lines += [
            "",
            "## What is dropped",
            "",
            "An answer counts for the first filter, in this order, that drops it.",
            "",
        ]
        names = sorted({task for tasks in card["dropped"].values() for task in tasks})
        rows = [
            (name, sum(tasks.values()), *(tasks.get(task, 0) for task in names))
            for name, tasks in card["dropped"].items()
        ]
        lines += _table(("filter", "all", *names), rows)
        for name, examples in card["drop_examples"].items():
            for example in examples:
                lines += ["", f"`{name}` dropped, of {example['task']}: {_quoted(example['prompt'])}", ""]
                lines += [f"> {_line(example['answer'])}"]
    for name, task in card["tasks"].items():
        lines += ["", f"## Examples of {name}"]
        for example in task["examples"]:
            cut_off = "" if example["complete"] else " *(cut)*"
            lines += [
                "",
                f"**{_line(example['transcript'])}** — {_quoted(example['prompt'])}",
                "",
                f"> {_line(example['answer'])}{cut_off}",
            ]
    return "\n".join(lines) + "\n"


_TARGETS = {"llm": "answer", "transcript": "transcript", "label": "label"}


def _asked(asked: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[str]:
    columns = [(split, group) for split, groups in asked.items() for group in groups]
    tasks = sorted({task for groups in asked.values() for counts in groups.values() for task in counts})
    heads = [f"{split}: {_GROUPS[group]}" for split, group in columns]
    rows = [(task, *(asked[split][group].get(task, 0) or "" for split, group in columns)) for task in tasks]
    return _table(("task", *heads), rows)


def _table(heads: Seq[str], rows: Seq[Seq[object]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]


def _length(lengths: Mapping[str, float]) -> str:
    mean, *others = (lengths[name] for name in _LENGTHS)
    quarters, longest = ", ".join(f"{value:g}" for value in others[:3]), others[3]
    return f"{mean:.1f} ({quarters}; {longest:g})"


def _system(text: str | None) -> str:
    return "the chat template's own" if text is None else _quoted(text) if text else "none"


def _quoted(text: str) -> str:
    """Show a prompt as code; a backquote in it would end that early."""
    return f"`{_line(text).replace('`', chr(39))}`"


def _line(text: str) -> str:
    return " ".join(text.split())
