"""Rules are parsed with an error that helps, and hold where anybody would say so."""

import pytest

from toolkit.errors import ConfigError, UnknownNameError
from toolkit.rules import holds, parse_rule


@pytest.mark.parametrize(
    ("rule", "kept", "broken"),
    [
        ("one_word", ["Yes.", " **positive** ", "well-known", "3.5"], ["", "two words", "...", "Yes. No."]),
        ("max_words=3", ["one", "one, two - three!"], ["one two three four", "", "?"]),
        ("capitals", ["LOUD AND CLEAR, 3 TIMES"], ["Loud", "123", "", "ALMOSt"]),
        ("lower_case", ["quiet, 3 times."], ["Quiet", "123", ""]),
        (
            "json",
            ['{"a": 1}', "[]", '```json\n{"a": [1, 2]}\n```', "```\n[1]\n```"],
            ["42", '"a"', "Sure: {}", "{'a': 1}", '{"a": 1} done', "", "[" * 100_000],
        ),
        ("no_commas", ["a b c."], ["a, b", ""]),
        ("starts_with=Sure", ["Sure, why not", "sure", '"Sure!" he said'], ["Surely", "I am sure", ""]),
        ("starts_with=Well then", ["Well, then: go"], ["Well now then", "Well"]),
        ("ends_with=over and out", ["Done. Over and out.", "over and out", 'He said "over and out!"'], ["over", "out"]),
        ("ends_with=end", ["the end", "The End!"], ["weekend", "the end of it", ""]),
        ("ends_with=Right?", ["It is, right?"], ["It is right.", "It is right"]),
        (
            "bullets=2",
            ["- a\n- b", "Two:\n* a\n  • b\nThat is all."],
            ["- a", "- a\n- b\n- c", "-a\n-b", "1 - 2\n3 - 4"],
        ),
    ],
)
def test_what_keeps_a_rule_and_what_breaks_it(rule: str, kept: list[str], broken: list[str]) -> None:
    assert [answer for answer in kept if not holds(rule, answer)] == []
    assert [answer for answer in broken if holds(rule, answer)] == []


def test_a_rule_is_a_name_and_perhaps_a_value() -> None:
    assert parse_rule("ends_with=a = b") == ("ends_with", "a = b")
    assert parse_rule(" max_words = 12 ") == ("max_words", "12")
    assert parse_rule("json") == ("json", "")


def test_an_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown rule 'max_word'. Did you mean 'max_words'\?"):
        holds("max_word=3", "yes")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("max_words", "needs a number of at least 1, such as max_words=3"),
        ("max_words=0", "needs a number"),
        ("bullets=two", "needs a number"),
        ("max_words=²", "needs a number"),
        ("starts_with=", "needs some text"),
        ("ends_with=?", "needs some text"),
        ("capitals=yes", "takes no value"),
        ("one_word=", "takes no value"),
    ],
)
def test_a_value_that_a_rule_cannot_have(rule: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        holds(rule, "anything")
