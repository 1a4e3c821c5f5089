"""Reading which choice an answer names: a letter, or yes or no. An answer that names none, or several, is unparsed.

The rules are ours. VoiceBench tries some 150 phrases and then guesses at random, which gives a model that says nothing
the score of chance; here an unparsed answer is wrong, and counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq

_LINK = r"(?:\s+(?:to (?:the|this|your) question|is|are|would be|should be|must be|option|choice|letter|the)\b)*"
_OPEN = r"[\s:=\"'“‘*_(\[]*"
_DECIDED = rf"(?i:\b(?:answer|choose|chose|select|pick)\b{_LINK})"
_NAMED = rf"(?i:\b(?:option|choice|letter)\b{_LINK})"
_AFTER_A = "because|since|as|for|is|which"
"""what may follow the letter A; before another small word it is the article"""
_SAID = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}


def parse_letter(answer: str, letters: Seq[str]) -> str | None:
    """Read which of the letters an answer names, None unless it is exactly one.

    The first of these that is found decides: the answer is a letter and nothing else; a letter after `answer`,
    `choose` and the like; a letter after `option`; a letter in parentheses, or at the beginning before punctuation
    or alone in its line. Small letters count alone, in parentheses and before punctuation.
    """
    upper, lower = "".join(letters).upper(), "".join(letters).lower()
    small = rf"(?<=[(\[])([{lower}])(?=[)\]])|([{lower}])(?=[).:,]|\s*$)"
    letter = rf"(?:([{upper}])(?![\w'’])|{small})"
    # Not the article: there, another small word follows the letter A.
    no_article = rf"(?!A\s+(?!(?:{_AFTER_A})\b)[a-z])"
    either = f"([{upper}{lower}])"
    ways = (
        rf"\A\W*{either}\W*\Z",
        _DECIDED + _OPEN + no_article + letter,
        _NAMED + _OPEN + letter,
        rf"\A[\s\"'“‘*_(\[]*{either}(?=[).:,\]*\n])|[(\[]{either}[)\]]",
    )
    for way in ways:
        found = {next(filter(None, match.groups())).upper() for match in re.finditer(way, answer)}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def parse_yes_no(answer: str) -> str | None:
    """Read whether an answer says yes or no (or true or false), None unless it is exactly one.

    The first of these that is found decides: a word after `answer`; the first word; the last word.
    """
    word = r"\b(yes|no|true|false)\b"
    for way in (rf"\banswer\b{_LINK}{_OPEN}{word}", rf"\A\W*{word}", rf"{word}\W*\Z"):
        found = {_SAID[said] for said in re.findall(way, answer.lower())}
        if found:
            return found.pop() if len(found) == 1 else None
    return None
