"""Refusals: answers that say why there is no answer, found by phrases of English.

They are counted here. What training leaves out as a refusal is narrower, and told apart from this in `stages.filters`.
"""

from __future__ import annotations

import re

from toolkit.scoring.normalisation import basic

OPENING = 25
"""words of an answer in which a refusal must begin to show"""
_CANNOT = "|".join(
    (
        "can't", "cannot", "can not", "couldn't", "won't", "will not", "am unable to", "am not able to",
        "don't have the (?:ability|capability) to", "do not have the (?:ability|capability) to",
    )
)  # fmt: skip
_SERVICE = "|".join(
    (
        "help(?! but)", "assist", "answer", "respond", "reply", "provide", "fulfil", "fulfill", "comply", "hear",
        "listen", "understand", "access", "process", "translate", "transcribe", "continue", "complete", "rewrite",
        "summarise", "summarize", "generate", "create", "engage", "discuss", "repeat",
    )
)  # fmt: skip
_MACHINE = "an? (?:ai|artificial|large language model|language model|text based)"
_REFUSAL = re.compile(
    rf"\b(?:i (?:{_CANNOT})(?: \w+)? (?:{_SERVICE})|sorry (?:but )?i (?:{_CANNOT})|as {_MACHINE}"
    rf"|i am (?:just |only )?{_MACHINE}|i must decline)\b"
)
DEFINITION = (
    f"refusals (among its first {OPENING} words the answer says that it cannot or will not do what is asked, or that "
    "it comes from a language model, and the utterance does not say so itself; by a list of English phrases, so that "
    "others are missed)"
)


def refuses(answer: str, said: str) -> bool:
    """Say whether an answer declines to answer, in words that are not `said` in the utterance."""
    found = _REFUSAL.search(" ".join(_plain(answer).split()[:OPENING]))
    return found is not None and found.group() not in _plain(said)


def _plain(text: str) -> str:
    return basic(text).replace("i'm ", "i am ")
