"""Counting sentences by a rule that needs no trained model."""

from __future__ import annotations

import re

ABBREVIATIONS = frozenset((
    "mr", "mrs", "ms", "dr", "prof", "st", "mt", "jr", "sr", "vs", "etc", "e.g", "i.e", "inc", "ltd", "co", "no",
    "a.m", "p.m",
))  # fmt: skip
_END = re.compile(r"[.!?…]+[\"'”’)\]*]*(?=\s|$)")


def count_sentences(text: str) -> int:
    """Count the sentences of a text; what stands after the last full stop is one too.

    A sentence ends at `.`, `!`, `?` or `…` before white space. A single full stop after an abbreviation, an initial
    or the number of a list does not end one, unless the text does.
    """
    text, count, start = text.strip(), 0, 0
    for end in _END.finditer(text):
        words = text[start : end.start()].split()
        goes_on = end.group() == "." and end.end() < len(text) and bool(words) and _is_cut_short(words)
        if words and not goes_on:
            count, start = count + 1, end.end()
    return count + bool(re.search(r"\w", text[start:]))


def _is_cut_short(words: list[str]) -> bool:
    last = words[-1].lower().lstrip("(\"'“‘[*")
    initial = len(last) == 1 and last.isalpha() and last != "i"
    return last in ABBREVIATIONS or initial or (len(words) == 1 and last.isdigit())
