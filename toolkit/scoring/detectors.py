"""Detectors of broken answers: empty, looping, cut at the length limit; in the benchmark refusing and over-long too.

They judge no content; they tell why a score is low, and they should be near the text LLM's own rates.
"""

from __future__ import annotations

from collections.abc import Callable

from toolkit.scoring.answers import Answer, Question
from toolkit.scoring.normalisation import basic
from toolkit.scoring.refusals import DEFINITION as REFUSALS
from toolkit.scoring.refusals import refuses

LONGEST = 8
"""words in the longest repeated piece that is looked for"""
WORD_TIMES, PIECE_TIMES = 4, 3
"""how often in a row a word, or a piece of several words, must occur to be a loop"""
DEFINITION = (
    "In percent of all answers: empty (nothing but white space); loops (a word "
    f"{WORD_TIMES} times in a row, or a piece of 2 to {LONGEST} words {PIECE_TIMES} times in a row); "
    "cut off (stopped at the length limit)."
)
OVER_LONG_TIMES, OVER_LONG_WORDS = 3, 20
"""an answer is over-long with more than so many times the words of its reference, and more than so many words"""
MORE_FAULTS = (
    f"Of the benchmark also: {REFUSALS}; over-long (more than {OVER_LONG_TIMES} times the words of the reference, and "
    f"more than {OVER_LONG_WORDS})."
)


def is_empty(answer: Answer) -> bool:
    """Say whether there is no answer."""
    return not answer.hypothesis.strip()


def is_loop(answer: Answer) -> bool:
    """Say whether some piece of the answer is repeated back to back; case and punctuation do not count."""
    return loops(answer.hypothesis)


def loops(text: str) -> bool:
    """Say whether some piece of a text is repeated back to back; case and punctuation do not count."""
    words = basic(text).split()
    for length in range(1, LONGEST + 1):
        # A piece repeated k times in a row is a run of (k - 1) * length words equal to those `length` before.
        needed = length * ((WORD_TIMES if length == 1 else PIECE_TIMES) - 1)
        run = 0
        for now, before in zip(words[length:], words, strict=False):
            run = run + 1 if now == before else 0
            if run >= needed:
                return True
    return False


def is_cut_off(answer: Answer) -> bool:
    """Say whether the answer was stopped at the length limit."""
    return not answer.complete


def is_refusal(question: Question, answer: Answer) -> bool:
    """Say whether the answer declines to answer."""
    return refuses(answer.hypothesis, question.transcript)


def is_over_long(question: Question, answer: Answer) -> bool:
    """Say whether the answer is far longer than it should be."""
    words, wanted = (len(basic(text).split()) for text in (answer.hypothesis, question.reference))
    return words > OVER_LONG_WORDS and words > OVER_LONG_TIMES * wanted


DETECTORS: dict[str, Callable[[Answer], bool]] = {"empty": is_empty, "loops": is_loop, "cut_off": is_cut_off}
OF_QUESTION: dict[str, Callable[[Question, Answer], bool]] = {"refusals": is_refusal, "over_long": is_over_long}
"""what the benchmark also looks for, and plain scoring does not: its tables are older"""
