"""Constraints on an answer that a rule can check: `one_word`, `max_words=5`, `starts_with=Sure`.

A task names its rule in its file; whether an answer keeps it needs neither a model nor a reference. A word is what
stands between spaces and has a letter or digit in it. An empty answer keeps no rule: saying nothing is not obeying.
(The kind of check is IFEval's, arXiv 2311.07911; the rules are our own.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from toolkit.errors import ConfigError, unknown_name

_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.DOTALL)
_BULLET = re.compile(r"^[ \t]*[-*•][ \t]+\S", re.MULTILINE)
_CLOSING = ".!?…"
_QUOTES = "\"'”’»`*"


@dataclass(frozen=True)
class _Rule:
    takes: str
    """what stands after `=`: a `number` of at least 1, some `text`, or nothing"""
    holds: Callable[[str, str], bool]
    """(answer without the white space around it, value) -> whether it is kept"""


def parse_rule(rule: str) -> tuple[str, str]:
    """Split a rule into its name and value, the value empty where the rule takes none.

    Raises:
        UnknownNameError: there is no such rule; the nearest is named.
        ConfigError: the value is missing, or is not what the rule takes.
    """
    name, given, value = (part.strip() for part in rule.partition("="))
    if name not in _RULES:
        raise unknown_name("rule", name, list(_RULES))
    takes = _RULES[name].takes
    if takes == "number" and not (value.isascii() and value.isdecimal() and int(value) > 0):
        raise ConfigError(f"rule '{rule}' needs a number of at least 1, such as {name}=3")
    if takes == "text" and not any(map(str.isalnum, value)):
        raise ConfigError(f"rule '{rule}' needs some text, such as {name}=Sure")
    if given and not takes:
        raise ConfigError(f"rule '{rule}': {name} takes no value")
    return name, value


def holds(rule: str, answer: str) -> bool:
    """Say whether an answer keeps a rule.

    Raises:
        UnknownNameError: there is no such rule; the nearest is named.
        ConfigError: the value of the rule is missing, or is not what it takes.
    """
    name, value = parse_rule(rule)
    said = answer.strip()
    return bool(said) and _RULES[name].holds(said, value)


def _words(text: str) -> list[str]:
    """Return the words as written, without what surrounds their letters and digits."""
    words = (re.sub(r"^[\W_]+|[\W_]+$", "", word) for word in text.split())
    return [word for word in words if word]


def _is_json(answer: str, _: str) -> bool:
    """Say whether all of the answer, perhaps in a code fence, is one object or list: a bare word would be too easy."""
    fenced = _FENCE.match(answer)
    try:
        return isinstance(json.loads(fenced[1] if fenced else answer), dict | list)
    except (ValueError, RecursionError):
        return False


def _starts_with(answer: str, value: str) -> bool:
    """Compare the first words; case and punctuation do not count."""
    wanted = _words(value.casefold())
    return _words(answer.casefold())[: len(wanted)] == wanted


def _ends_with(answer: str, value: str) -> bool:
    """Compare the last characters; case, closing quotes and, after a word, the full stop do not count."""
    text, said = value.casefold(), answer.casefold().rstrip(_QUOTES)
    if text[-1].isalnum():
        said = said.rstrip(_CLOSING + _QUOTES)
    before = said[: -len(text)][-1:]
    return said.endswith(text) and not (before.isalnum() and text[0].isalnum())


_RULES = {
    "one_word": _Rule("", lambda answer, _: len(_words(answer)) == 1),
    "max_words": _Rule("number", lambda answer, value: 1 <= len(_words(answer)) <= int(value)),
    "capitals": _Rule("", lambda answer, _: answer.isupper()),
    "lower_case": _Rule("", lambda answer, _: answer.islower()),
    "json": _Rule("", _is_json),
    "no_commas": _Rule("", lambda answer, _: "," not in answer),
    "starts_with": _Rule("text", _starts_with),
    "ends_with": _Rule("text", _ends_with),
    "bullets": _Rule("number", lambda answer, value: len(_BULLET.findall(answer)) == int(value)),
}

DEFINITION = (
    "Share of answers that keep the rule of their task, in percent, by rule alone: nobody judges. A word is what "
    "stands between spaces and has a letter or digit. one_word; max_words=N (at least one); capitals and lower_case "
    "(no letter of the other case); json (all of it one object or list, perhaps in a code fence); no_commas; "
    "starts_with=WORD (case and punctuation do not count); ends_with=TEXT (case, closing quotes and, after a word, "
    "the full stop do not count); bullets=N (exactly N lines that begin with -, * or •). An empty answer keeps no "
    "rule."
)
