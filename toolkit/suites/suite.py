"""The suites there are: how each is read, what its files do not say, and what of it is not run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import unknown_name
from toolkit.suites import dynamic_superb, speech_ifeval, voicebench
from toolkit.suites.item import Parts
from toolkit.suites.rules import CHECKS, SPEECH_CHECKS, Check


@dataclass(frozen=True)
class Suite:
    """One benchmark."""

    name: str
    title: str
    source: str
    """whose files are read, by repository"""
    read: Callable[[Path], Parts]
    spoken: bool
    """whether the recordings speak the instruction, so that the prompt is the speech alone"""
    not_run: str
    """what of the official evaluation is not computed, and why"""
    checks: Mapping[str, Check]
    pooled: bool = False
    """whether its parts are of one kind, so that a row for all of them means something"""
    left: Callable[[Path], list[str]] = lambda folder: []
    """parts that lie in the folder and are not read"""


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "speech-ifeval",
            "Speech-IFEval",
            "github.com/kehanlu/Speech-IFEval: eval_data/*.jsonl and audios/",
            speech_ifeval.read,
            spoken=False,
            not_run=(
                "An LLM judges the chain-of-thought items there, and whether a closed-ended answer is right; and it "
                "cuts the transcription out of an answer before its word errors are counted. None of that is run: "
                "chain-of-thought is not asked, there is no IFrate (it needs chain-of-thought) and no forgetting rate. "
                "`label named` and `WER of the whole answer` are rules of ours on the same items, and no replacement."
            ),
            checks=SPEECH_CHECKS,
        ),
        Suite(
            "voicebench",
            "VoiceBench",
            "github.com/MatthewCYM/VoiceBench: the dataset hlt-lab/voicebench",
            voicebench.read,
            spoken=True,
            not_run=(
                f"An LLM judges {', '.join(voicebench.JUDGED)} there: not run, so there is no overall score. Choices "
                "(mmsu, openbookqa, bbh) are read by rules of ours; there, an answer that its phrases do not cover is "
                "guessed at random, here it is wrong and counted as unparsed."
            ),
            checks=CHECKS,
            left=voicebench.judged,
        ),
        Suite(
            "dynamic-superb",
            "Dynamic-SUPERB, phase 1",
            "github.com/dynamic-superb/dynamic-superb: TASK/test/metadata.json, or the datasets DynamicSuperb/*",
            dynamic_superb.read,
            spoken=False,
            not_run=(
                "`exact label` is the published measure: the answer is the label and nothing else, whatever the case. "
                "`label named` is ours. Phase 2, which an LLM scores, is not read. The first row pools the items of "
                "all tasks; the paper has means of tasks by dimension."
            ),
            checks=CHECKS,
            pooled=True,
        ),
    )
}


def find_suite(name: str) -> Suite:
    """Return a suite by name.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in SUITES:
        raise unknown_name("suite", name, list(SUITES))
    return SUITES[name]
