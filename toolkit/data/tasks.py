"""Tasks and prompts as data: what the text LLM is asked about an utterance, and in which words.

A task file names a task, its wordings for training and its held-out wordings; a held-out task has only the
latter. They are listed apart, or split from one list by a rule in the file: `held_out_wordings: {every: 3}` holds
out the 3rd, 6th, 9th and so on, and wordings appended later move none of them. Which wording an utterance gets is a
function of its id, so every stage agrees without being told; so are the further utterances that a wording with
`{speech2}` is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from toolkit.data.seeding import seeded
from toolkit.data.tokenization import check_prompt
from toolkit.errors import ConfigError, DataError, check_names
from toolkit.types import Example

TRANSCRIBE = "transcribe"
_KEYS = {"name", "family", "held_out", "target", "label", "choices", "rule", "held_out_wordings", "wordings"}


@dataclass(frozen=True)
class Task:
    """One task."""

    name: str
    family: str
    held_out: bool
    """never trained: it measures generalisation to tasks"""
    target: str
    """`llm`: the text LLM's own answer; `transcript`: the transcript itself; `label`: what `label` names"""
    choices: tuple[str, ...]
    """the allowed answers of a closed task, else empty"""
    training: tuple[str, ...]
    """wordings that may be trained on"""
    testing: tuple[str, ...]
    """wordings that are never trained on"""
    rule: str = ""
    """the constraint that an answer must meet whatever it says, such as `one_word` or `max_words=12`; else empty"""
    label: str = ""
    """for the target `label`: a rule of `toolkit.data.labels`, or a key of the utterance's metadata"""


@dataclass(frozen=True)
class Request:
    """One prompt for one utterance, or for one and others."""

    cut: str
    task: str
    group: str
    """`seen_wording`, `held_out_wording` or `held_out_task`"""
    prompt: str
    before: str = ""
    """what else the prompt gives as text just before the utterance: the transcript of another one"""
    after: str = ""
    """the same, just after it"""

    others: tuple[str, ...] = ()
    """the utterances of `{speech2}`, `{speech3}` and so on"""

    def whole(self, transcript: str) -> str:
        """Return the transcript of all that is asked about, of which `transcript` is the utterance's."""
        return " ".join(text for text in (self.before, transcript, self.after) if text)

    @property
    def utterances(self) -> tuple[str, ...]:
        """The ids in the order of their slots' numbers."""
        return (self.cut, *self.others)

    def example(self, examples: Mapping[str, Example]) -> Example:
        """Return what is asked about, without the prompt: the utterance with the others beside it."""
        example, *others = (examples[name] for name in self.utterances)
        return replace(example, others=tuple(others))


def load_tasks(folder: Path) -> dict[str, Task]:
    """Read every `*.yaml` of a folder.

    Raises:
        DataError: a file has unknown or missing keys, a wording without `{speech}`, or a wording on both sides.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise DataError(f"no task files (*.yaml) in {folder}: set imitate.tasks to a folder that has some")
    tasks = [_read(path) for path in files]
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise DataError(f"two task files in {folder} have the same name: {sorted(names)}")
    return {task.name: task for task in tasks}


def choose(tasks: dict[str, Task], names: Seq[str]) -> list[Task]:
    """Return the named tasks, or all that are not held out.

    Raises:
        UnknownNameError: no such task.
        ConfigError: a held-out task is asked for in training.
    """
    check_names("task", names, tasks)
    for name in names:
        if tasks[name].held_out:
            raise ConfigError(f"task '{name}' is held out: it may be tested, never trained")
    return [tasks[name] for name in names] or [task for task in tasks.values() if not task.held_out]


def training_requests(cuts: Seq[str], tasks: Seq[Task], per_cut: int, seed: int) -> list[Request]:
    """Ask each utterance `per_cut` different tasks, each in one training wording, drawn by (seed, id)."""
    requests = []
    for cut in cuts:
        rng = seeded(seed, cut)
        for task in rng.sample(list(tasks), min(per_cut, len(tasks))):
            requests.append(_request(cut, task.name, "seen_wording", rng.choice(task.training), cuts))
    return requests


def evaluation_requests(cuts: Seq[str], tasks: dict[str, Task]) -> list[Request]:
    """Ask each utterance every task: once as trained, once in a held-out wording, held-out tasks once.

    Which wording depends on the utterance alone, never on the seed of a training: all are asked the same.
    """
    requests = []
    for cut in cuts:
        rng = seeded("test", cut)
        for task in tasks.values():
            if task.held_out:
                requests.append(_request(cut, task.name, "held_out_task", rng.choice(task.testing), cuts))
            else:
                requests.append(_request(cut, task.name, "seen_wording", rng.choice(task.training), cuts))
                requests.append(_request(cut, task.name, "held_out_wording", rng.choice(task.testing), cuts))
    return requests


def benchmark_requests(cuts: Seq[str], tasks: Mapping[str, Task], wordings: int) -> list[Request]:
    """Ask each utterance every task in many wordings: up to `wordings` of each group, all of them where it is 0.

    Which ones depends on the utterance and the task alone, so that all wordings are asked about equally often and
    whoever asks more wordings, tasks or utterances asks the same ones among them.

    Raises:
        ConfigError: `wordings` is negative.
    """
    if wordings < 0:
        raise ConfigError(f"a task is asked in 1 or more wordings, or in all of them (0), not in {wordings}")
    requests = []
    for cut in cuts:
        for task in tasks.values():
            rng = seeded("benchmark", cut, task.name)
            groups = {"seen_wording": task.training, "held_out_wording": task.testing}
            for group, asked in {"held_out_task": task.testing}.items() if task.held_out else groups.items():
                shuffled = rng.sample(asked, len(asked))[: wordings or None]
                requests += [_request(cut, task.name, group, wording, cuts) for wording in shuffled]
    return requests


def _request(cut: str, task: str, group: str, prompt: str, cuts: Seq[str]) -> Request:
    """Make a request; others of `cuts` are drawn for its further slots by the utterance's id and the prompt alone.

    Raises:
        DataError: there are fewer utterances than slots.
    """
    more = check_prompt(prompt) - 1
    if not more:
        return Request(cut, task, group, prompt)
    if more >= len(cuts):
        raise DataError(f"task '{task}' asks about {more + 1} utterances at once, and the split has {len(cuts)}")
    # One more than needed, for it may be the utterance itself.
    drawn = seeded("others", cut, prompt).sample(cuts, more + 1)
    return Request(cut, task, group, prompt, others=tuple(name for name in drawn if name != cut)[:more])


def _read(path: Path) -> Task:
    data: Any = yaml.safe_load(path.read_text())
    if not isinstance(data, dict) or set(data) - _KEYS or not {"name", "family", "wordings"} <= set(data):
        raise DataError(f"{path}: a task has the keys {sorted(_KEYS)}; name, family and wordings are needed")
    held_out = bool(data.get("held_out", False))
    target = data.get("target", "llm")
    if target not in ("llm", "transcript", "label"):
        raise DataError(f"{path}: target is 'llm', 'transcript' or 'label', not {target!r}")
    if (target == "label") != bool(label := str(data.get("label") or "")):
        raise DataError(f"{path}: a task with 'target: label', and no other, says which one by 'label: ...'")
    if (target == "transcript") != (data["name"] == TRANSCRIBE):
        raise DataError(f"{path}: the task '{TRANSCRIBE}', and no other, has the transcript as its target")
    rule = data.get("rule", "")
    if not isinstance(rule, str):
        raise DataError(f"{path}: rule is a text such as one_word or max_words=12, not {rule!r}")
    training, testing = _wordings(path, data, held_out)
    if held_out == bool(training) or not testing:
        raise DataError(f"{path}: a task has training and held-out wordings, a held-out task only the latter")
    for wording in (*training, *testing):
        if not isinstance(wording, str):
            raise DataError(f"{path}: a wording is a text, not {wording!r}: put it in quotation marks")
        try:
            count = check_prompt(wording)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        if count > 1 and target != "llm":
            raise DataError(f"{path}: the {target} of one utterance is the target, and {wording!r} is about {count}")
    if both := set(training) & set(testing):
        raise DataError(f"{path}: a wording is both trained and held out: {sorted(both)[0]!r}")
    choices = tuple(data.get("choices") or ())
    return Task(data["name"], data["family"], held_out, target, choices, training, testing, rule, label)


def _wordings(path: Path, data: dict[str, Any], held_out: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the training and the held-out wordings, as they are listed or as the rule of the file splits them."""
    wordings, rule = data["wordings"], data.get("held_out_wordings")
    match wordings, rule:
        case dict(), None:
            return tuple(wordings.get("training") or ()), tuple(wordings.get("held_out") or ())
        case list(), None if held_out:
            return (), tuple(wordings)
        case list(), {"every": int(step), **more} if not (held_out or more) and step > 1:
            training = (wording for number, wording in enumerate(wordings, 1) if number % step)
            return tuple(training), tuple(wordings[step - 1 :: step])
    raise DataError(
        f"{path}: wordings are {{training: [...], held_out: [...]}}; or one list, split by held_out_wordings: "
        "{every: N} with N of 2 or more, which a held-out task has not"
    )
