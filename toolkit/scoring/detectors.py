"""Detectors of broken answers: empty, looping, or cut at the length limit.

They judge no content; they tell why a score is low, and they should be near the text LLM's own rates.
"""

from __future__ import annotations

from collections.abc import Callable

from toolkit.scoring.answers import Answer
from toolkit.scoring.normalisation import basic

LONGEST = 8
"""words in the longest repeated piece that is looked for"""
WORD_TIMES, PIECE_TIMES = 4, 3
"""how often in a row a word, or a piece of several words, must occur to be a loop"""
DEFINITION = (
    "In percent of all answers: empty (nothing but white space); loops (a word "
    f"{WORD_TIMES} times in a row, or a piece of 2 to {LONGEST} words {PIECE_TIMES} times in a row); "
    "cut off (stopped at the length limit)."
)


def is_empty(answer: Answer) -> bool:
    """Say whether there is no answer."""
    return not answer.hypothesis.strip()


def is_loop(answer: Answer) -> bool:
    """Say whether some piece of the answer is repeated back to back; case and punctuation do not count."""
    words = basic(answer.hypothesis).split()
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


DETECTORS: dict[str, Callable[[Answer], bool]] = {"empty": is_empty, "loops": is_loop, "cut_off": is_cut_off}
