"""The rules of IFEval, each by answers that keep it and answers that do not."""

from typing import Any

import pytest

from toolkit.errors import DataError
from toolkit.suites.rules import CHECKS, LANGUAGE, SPEECH_CHECKS, followed, loosely_followed, read_rules
from toolkit.suites.sentences import count_sentences

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["tea", "a.b"]}, "Tea, and a.b.", "Tea, and axb."),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "at least"}, "Tea? Tea!", "Tea."),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "less than"}, "Tea.", "tea tea"),
    ("keywords:forbidden_words", {"forbidden_words": ["tea"]}, "The team.", "No TEA."),
    ("keywords:letter_frequency", {"letter": "T", "let_frequency": 3, "let_relation": "at least"}, "tTt", "tT"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "One. Two.", "One, Mr. Two."),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "One", "One. Two"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n\nb *** c\n***", "a\n\nb"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a***b", "a*** ***b"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "it's so", "so so"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Now"}, "Then.\n\n'now, she said", "Now.\n\nThen.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], [town]", "[name\ntown]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np. s. more", "Bye."),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye. P.P.S more", "Bye. P.S. more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n - two\n**no**", "* one"),
    ("detectable_format:constrained_response", {}, "Well: My answer is maybe.", "My answer is: maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and * *"),
    (
        "detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2},
        "Section 1\nx\nSection 2\ny", "Section 1\nx",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<A poem>>\nx", "<< >>\nx"),
    ("combination:two_responses", {}, "one ****** two", "one ****** one"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it. "}, "say it. It.", "It. Say it."),
    ("startend:end_checker", {"end_phrase": "Anything else?"}, '"Fine. anything else?"', "Anything else? Fine."),
    ("startend:quotation", {}, ' "x" ', '"'),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "I SAW", "I saw"),
    ("change_case:english_capital", {}, "LOUD, 1!", "LOUd"),
    ("change_case:english_lowercase", {}, "quiet, 1!", "Quiet"),
    ("punctuation:no_comma", {}, "a b", "a, b"),
]  # fmt: skip


def rules_of(*pairs: tuple[str, dict[str, Any]], checks: Any = CHECKS) -> Any:
    row = {"instruction_id_list": [name for name, _ in pairs], "kwargs": [given for _, given in pairs]}
    return read_rules(row, checks, "row 1")


@pytest.mark.parametrize(("name", "given", "kept", "broken"), CASES)
def test_a_rule_is_kept_by_one_answer_and_broken_by_another(
    name: str, given: dict[str, Any], kept: str, broken: str
) -> None:
    rules = rules_of((name, given))
    assert followed(rules, kept, CHECKS) == [True]
    assert followed(rules, broken, CHECKS) == [False]
    assert followed(rules, " \n", CHECKS) == [False]


def test_every_rule_has_a_case_but_the_one_that_needs_a_package() -> None:
    assert {name for name, *_ in CASES} == set(CHECKS) - {LANGUAGE}
    assert len(CHECKS) == 25


def test_the_language_is_told_by_langdetect() -> None:
    pytest.importorskip("langdetect")
    rules = rules_of((LANGUAGE, {"language": "de"}))
    assert followed(rules, "Das ist ein Satz, der lang genug ist, um erkannt zu werden.", CHECKS) == [True]
    assert followed(rules, "This is a sentence that is long enough to be told apart.", CHECKS) == [False]
    assert followed(rules, "12345", CHECKS) == [True]


def test_speech_ifeval_counts_paragraphs_by_lines() -> None:
    rules = rules_of(("length_constraints:number_paragraphs", {"num_paragraphs": 2}), checks=SPEECH_CHECKS)
    assert followed(rules, "one\n\ntwo", SPEECH_CHECKS) == [True]
    assert followed(rules, "one\ntwo\nthree", SPEECH_CHECKS) == [False]


def test_asterisks_and_outer_lines_may_be_taken_away_where_it_is_loose() -> None:
    rules = rules_of(("startend:quotation", {}), ("punctuation:no_comma", {}), ("change_case:english_capital", {}))
    answer = 'Sure, here it is\n*"TEA"*'
    assert followed(rules, answer, CHECKS) == [False, False, False]
    assert loosely_followed(rules, answer, CHECKS) == [True, True, True]
    assert loosely_followed(rules, "no, no", CHECKS) == [False, False, False]
    assert loosely_followed(rules, "", CHECKS) == [False, False, False]


def test_arguments_that_tables_fill_with_null_are_none() -> None:
    (rule,) = rules_of(("punctuation:no_comma", {"keywords": None, "num_words": None}))
    assert rule.arguments == {}
    assert rules_of(("startend:quotation", None))[0].arguments == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("startend:quotaton", {}, "row 1: unknown instruction 'startend:quotaton'. Did you mean 'startend:quotation'"),
        ("keywords:existence", {}, "row 1: keywords:existence cannot have the arguments"),
        ("punctuation:no_comma", {"keywords": ["a"]}, "cannot have the arguments"),
        ("keywords:frequency", {"keyword": "a", "frequency": 1, "relation": "at most"}, "no relation 'at most'"),
        ("length_constraints:number_words", {"num_words": "many", "relation": "at least"}, "cannot have the arguments"),
        ("keywords:letter_frequency", {"letter": "", "let_frequency": 1, "let_relation": "at least"}, "nothing to"),
    ],
)  # fmt: skip
def test_what_no_answer_could_be_checked_by_is_refused_when_read(name: str, given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        rules_of((name, given))


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="lists of the same length"):
        read_rules({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []}, CHECKS, "row 1")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("No stop", 1),
        ("One. Two! Three? Four…", 4),
        ('"Go." She went.', 2),
        ("Dr. Poe met J. Doe at 3.15 p.m. in St. Ives.", 1),
        ("1. First things. 2. Second things.", 2),
        ("I have 2. You have 3.", 2),
        ("It was I. He knew.", 2),
        ("Wait... what?! Yes.", 3),
        ("One line\nand another", 1),
    ],
)
def test_sentences_are_counted(text: str, count: int) -> None:
    assert count_sentences(text) == count
