"""Running a suite: read its folder, ask what has no answer yet, score all answers, write the table."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from toolkit.config import load_config
from toolkit.data.answers import AnswerStore
from toolkit.errors import ConfigError, DataError
from toolkit.scoring.answers import Answer as Said
from toolkit.scoring.bootstrap import Resampling
from toolkit.scoring.normalisation import Normaliser, normaliser
from toolkit.scoring.scorecard import write_text
from toolkit.stages.paths import CONFIG
from toolkit.stages.progress import say
from toolkit.suites.asking import ask, question_of
from toolkit.suites.item import JUDGE, WORDS, Item, Parts
from toolkit.suites.page import Result, write_result
from toolkit.suites.prompts import BESIDE, SPOKEN, check_template, prompt_of
from toolkit.suites.rules import LANGUAGE, language_detector
from toolkit.suites.scores import Figure, Judged, figures_of, judge, rule_figures
from toolkit.suites.suite import Suite
from toolkit.training.checkpoint import WEIGHTS

ALL = "all"
"""the row that pools the parts of a suite"""
_SHOWN = 3
"""how many offending items a message names"""
_UNHEARD = "unheard.json"
"""beside the answers: items whose recordings could not be used, and why"""


@dataclass(frozen=True)
class Options:
    """How a suite is run."""

    limit: int = 0
    """items of each part; 0 is all"""
    template: str = ""
    """of the prompts; empty is the suite's own"""
    max_new_tokens: int = 0
    """of an answer; 0 is what the model was trained with"""
    batch_size: int = 8
    skip_missing: bool = False
    """leave out, and count, what cannot be run here, instead of stopping"""
    normaliser: str = "english"
    resampling: Resampling = field(default_factory=Resampling)


def run(suite: Suite, folder: Path, exp_dir: Path, out: Path, options: Options) -> Result:
    """Run a suite on the model trained in `exp_dir`. What is answered already is not asked again.

    Args:
        suite: which.
        folder: its data.
        exp_dir: experiment folder with a checkpoint.
        out: where answers and tables go.
        options: how.

    Raises:
        ConfigError: an option cannot be, or a package is missing.
        DataError: the data is not what the suite has, or audio is missing.
    """
    template = options.template or (SPOKEN if suite.spoken else BESIDE)
    check_template(template, spoken=suite.spoken)
    words = normaliser(options.normaliser)
    mark, config = checkpoint_mark(exp_dir), load_config(exp_dir / "checkpoint" / CONFIG)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: name the one that holds the data of {suite.title}")
    parts = suite.read(folder)
    items = [item.without_sound() for item in _items(parts, options.limit)]
    if not items:
        raise DataError(f"{folder} holds no items of {suite.title}")
    left = _cannot_be_asked(items, suite, words, skip=options.skip_missing)
    prompts = {item.id: prompt_of(item, template) for item in items if item.id not in left}
    store = AnswerStore(out / f"answers-{mark}", options.max_new_tokens or config.imitate.max_new_tokens)
    questions = {item.id: question_of(item, prompts[item.id]) for item in items if item.id in prompts}
    missing = {name for name, question in questions.items() if store.get(question) is None}
    # What could not be heard before is not tried again, or scoring again would need the model.
    unheard = _read_unheard(store) if options.skip_missing else {}
    if todo := {name: prompts[name] for name in missing if questions[name].text not in unheard}:
        again, title = _items(parts, options.limit), f"{suite.name}: answer"
        found = ask(exp_dir, store, again, todo, options.batch_size, skip=options.skip_missing, title=title)
        unheard |= {questions[name].text: why for name, why in found.items()}
        write_text(store.folder / _UNHEARD, json.dumps(unheard, indent=1) + "\n")
    else:
        say(f"{suite.name}: all answers are in {store.path}; scored again")
    left |= {name: unheard[questions[name].text] for name in missing if questions[name].text in unheard}
    judged = [
        judge(item, Said(answer.text, answer.complete), suite.checks)
        for item in items
        if item.id not in left and (answer := store.get(questions[item.id])) is not None
    ]
    made = {
        "checkpoint": mark, "template": template, "max_new_tokens": store.max_new_tokens,
        "items a part at most": options.limit or None, "not read": ", ".join(suite.left(folder)),
    }  # fmt: skip
    result = Result(
        suite.name, suite.title, suite.source, _figures(suite, parts, judged, words, options),
        tuple(rule_figures(judged, options.resampling)), _counted(items, left), suite.not_run, words.description, made,
    )  # fmt: skip
    write_result(out, result, judged, prompts)
    return result


def checkpoint_mark(exp_dir: Path) -> str:
    """Digest a checkpoint: its configuration, which names the frozen models, and the trained weights.

    Raises:
        DataError: there is no trained model.
    """
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        path = exp_dir / "checkpoint" / name
        if not path.is_file():
            raise DataError(f"no trained model in {exp_dir}: {path} is missing")
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _items(parts: Parts, limit: int) -> Iterator[Item]:
    """Yield the items of all parts, of each the first `limit`."""
    for read in parts.values():
        yield from islice(read(), limit or None)


def _cannot_be_asked(items: Seq[Item], suite: Suite, words: Normaliser, *, skip: bool) -> dict[str, str]:
    """Return, by item, why it is not asked; and score an empty answer to each, so that no rule fails after hours.

    Raises:
        ConfigError: a rule needs a package that is not installed, and nothing is to be left out.
        DataError: audio is missing, and nothing is to be left out; or a reference cannot be scored.
    """
    left = {item.id: "scored by an LLM" for item in items if JUDGE in item.measures}
    absent: list[str] = []
    for item in items:
        judge(item, Said(""), suite.checks)
        if WORDS in item.measures and not words.apply(item.reference):
            raise DataError(f"'{item.id}': the transcript {item.reference!r} has no words after {words.description}")
        if any(sound.missing for sound in item.sounds) and item.id not in left:
            left[item.id] = "missing audio"
            absent += [f"{sound.path} ({item.id})" for sound in item.sounds if sound.missing]
    if absent and not skip:
        raise DataError(
            f"{len(absent)} recordings are missing, e.g. {', '.join(absent[:_SHOWN])}: complete the data, or leave "
            "their items out, counted, with --skip-missing"
        )
    spoken_of = [item.id for item in items if any(rule.id == LANGUAGE for rule in item.rules) and item.id not in left]
    if spoken_of:
        try:
            language_detector()
        except ConfigError:
            if not skip:
                raise
            left |= dict.fromkeys(spoken_of, f"{LANGUAGE} without langdetect")
    return left


def _figures(
    suite: Suite, parts: Parts, judged: Seq[Judged], words: Normaliser, options: Options
) -> tuple[Figure, ...]:
    groups = {part: [each for each in judged if each.item.part == part] for part in parts}
    if suite.pooled and len(parts) > 1:
        groups = {ALL: list(judged), **groups}
    return tuple(
        figure for part, each in groups.items() if each for figure in figures_of(part, each, words, options.resampling)
    )


def _counted(items: Seq[Item], left: dict[str, str]) -> dict[str, dict[str, int]]:
    """Count, by part, why items were not asked."""
    counts: dict[str, Counter[str]] = {}
    for item in items:
        if item.id in left:
            counts.setdefault(item.part, Counter())[left[item.id]] += 1
    return {part: dict(count) for part, count in counts.items()}


def _read_unheard(store: AnswerStore) -> dict[str, str]:
    path = store.folder / _UNHEARD
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
