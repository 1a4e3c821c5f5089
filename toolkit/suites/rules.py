"""The verifiable instructions of IFEval (Zhou et al., arXiv 2311.07911): does an answer keep a rule?

The rules are those of the paper's own checker, written anew, and differ where that one needs a package or a guess:
sentences end by a rule of ours (there: nltk's punkt), words in capitals are runs of letters (there: nltk's tokens),
capital and small letters are looked at without asking which language it is, a keyword is text and no pattern, and an
argument that is missing is an error (there it is drawn at random).
"""

from __future__ import annotations

import inspect
import json
import operator
import re
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from typing import Any

from toolkit.errors import ConfigError, DataError, unknown_name
from toolkit.suites.item import Rule
from toolkit.suites.sentences import count_sentences

Check = Callable[..., bool]
LANGUAGE = "language:response_language"
"""the one rule that needs a package of its own"""
_RELATIONS: dict[str, Callable[[int, int], bool]] = {"less than": operator.lt, "at least": operator.ge}


def _holds(count: int, relation: str, threshold: int) -> bool:
    if relation not in _RELATIONS:
        raise DataError(f"there is no relation '{relation}'; there are {', '.join(_RELATIONS)}")
    return _RELATIONS[relation](count, int(threshold))


def _occurrences(text: str, answer: str) -> int:
    if not text.strip():
        raise DataError("there is nothing to look for")
    return answer.lower().count(text.strip().lower())


def _has_keywords(answer: str, *, keywords: Seq[str]) -> bool:
    return all(_occurrences(keyword, answer) for keyword in keywords)


def _keyword_frequency(answer: str, *, keyword: str, frequency: int, relation: str) -> bool:
    return _holds(_occurrences(keyword, answer), relation, frequency)


def _no_forbidden_words(answer: str, *, forbidden_words: Seq[str]) -> bool:
    return not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.IGNORECASE) for word in forbidden_words)


def _letter_frequency(answer: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _holds(_occurrences(letter, answer), let_relation, let_frequency)


def _language(answer: str, *, language: str) -> bool:
    detect, undecided = language_detector()
    try:
        return bool(detect(answer) == language)
    except undecided:
        return True  # as the paper's checker has it, where there are no letters to go by


def language_detector() -> tuple[Callable[[str], str], type[Exception]]:
    """Return langdetect's function and its error, with a fixed seed: it draws at random.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from langdetect import DetectorFactory, LangDetectException, detect
    except ImportError as error:
        raise ConfigError(
            f"the rule {LANGUAGE} needs langdetect, which is not installed: pip install 'mtbi-toolkit[suites]', or "
            "leave its items out, counted, with --skip-missing"
        ) from error
    DetectorFactory.seed = 0
    return detect, LangDetectException


def _sentences(answer: str, *, num_sentences: int, relation: str) -> bool:
    return _holds(count_sentences(answer), relation, num_sentences)


def _words(answer: str, *, num_words: int, relation: str) -> bool:
    return _holds(len(re.findall(r"\w+", answer)), relation, num_words)


def _divided_paragraphs(answer: str, *, num_paragraphs: int) -> bool:
    return _between("***", answer, int(num_paragraphs)) is not None


def _line_paragraphs(answer: str, *, num_paragraphs: int) -> bool:
    return sum(bool(line.strip()) for line in answer.split("\n")) == int(num_paragraphs)


def _between(divider: str, answer: str, count: int) -> list[str] | None:
    """Return the pieces between dividers if there are `count`; an empty one is none at the ends, and a fault inside."""
    pieces = [piece.strip() for piece in answer.split(divider)]
    inner = pieces[not pieces[0] : len(pieces) - (len(pieces) > 1 and not pieces[-1])]
    return inner if len(inner) == count and all(inner) else None


def _nth_paragraph(answer: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    pieces = answer.split("\n\n")
    count, nth = sum(bool(piece.strip()) for piece in pieces), int(nth_paragraph)
    if count != int(num_paragraphs) or not 1 <= nth <= count or not pieces[nth - 1].strip():
        return False
    word = pieces[nth - 1].split()[0].lstrip("'\"")
    return re.split(r"[.,?!'\"]", word)[0].lower() == first_word.lower()


def _placeholders(answer: str, *, num_placeholders: int) -> bool:
    return len(re.findall(r"\[[^\]\n]*\]", answer)) >= num_placeholders


def _postscript(answer: str, *, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    spaced = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}
    return bool(re.search(spaced.get(marker, re.escape(marker)), answer, re.IGNORECASE))


def _bullets(answer: str, *, num_bullets: int) -> bool:
    lines = [line.strip() for line in answer.split("\n")]
    starred = sum(line.startswith("*") and len(line) > 1 and line[1] != "*" for line in lines)
    return starred + sum(line.startswith("-") for line in lines) == int(num_bullets)


def _constrained(answer: str) -> bool:
    return any(f"My answer is {choice}." in answer for choice in ("yes", "no", "maybe"))


def _highlights(answer: str, *, num_highlights: int) -> bool:
    marked = re.findall(r"\*([^\n*]*)\*", answer) + re.findall(r"\*\*([^\n*]*)\*\*", answer)
    return sum(bool(text.strip()) for text in marked) >= num_highlights


def _sections(answer: str, *, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", answer)) >= num_sections


def _json(answer: str) -> bool:
    fenced = re.fullmatch(r"(?:```(?:json|Json|JSON)?)?(.*?)(?:```)?", answer.strip(), re.DOTALL)
    try:
        json.loads(fenced[1].strip() if fenced else answer)
    except ValueError:
        return False
    return True


def _title(answer: str) -> bool:
    return any(title.strip("<>").strip() for title in re.findall(r"<<[^\n]+>>", answer))


def _two_responses(answer: str) -> bool:
    pieces = _between("******", answer, 2)
    return pieces is not None and pieces[0] != pieces[1]


def _repeats(answer: str, *, prompt_to_repeat: str) -> bool:
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _ends(answer: str, *, end_phrase: str) -> bool:
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _quoted(answer: str) -> bool:
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _capital_words(answer: str, *, capital_frequency: int, capital_relation: str) -> bool:
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", answer)
    return _holds(sum(word.isupper() for word in words), capital_relation, capital_frequency)


def _no_comma(answer: str) -> bool:
    return "," not in answer


CHECKS: dict[str, Check] = {
    "keywords:existence": _has_keywords,
    "keywords:frequency": _keyword_frequency,
    "keywords:forbidden_words": _no_forbidden_words,
    "keywords:letter_frequency": _letter_frequency,
    LANGUAGE: _language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _divided_paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeats,
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": str.isupper,
    "change_case:english_lowercase": str.islower,
    "punctuation:no_comma": _no_comma,
}
"""id -> whether an answer keeps the rule, given its arguments"""
SPEECH_CHECKS: dict[str, Check] = {**CHECKS, "length_constraints:number_paragraphs": _line_paragraphs}
"""Speech-IFEval asks for paragraphs without a divider; its published outputs count lines that are not empty"""


def read_rules(row: Mapping[str, Any], checks: Mapping[str, Check], where: str) -> tuple[Rule, ...]:
    """Read `instruction_id_list` and `kwargs` of a row; arguments that are null (tables fill them up so) are none.

    Raises:
        DataError: a rule is unknown or its arguments do not fit; the rule and the row are named.
    """
    ids, arguments = row.get("instruction_id_list") or [], row.get("kwargs") or []
    if not isinstance(ids, list) or not isinstance(arguments, list) or len(ids) != len(arguments):
        raise DataError(f"{where}: 'instruction_id_list' and 'kwargs' must be lists of the same length")
    rules = []
    for name, given in zip(ids, arguments, strict=True):
        if name not in checks:
            raise DataError(f"{where}: {unknown_name('instruction', str(name), list(checks))}")
        rule = Rule(name, {key: value for key, value in (given or {}).items() if value is not None})
        try:
            inspect.signature(checks[name]).bind("", **rule.arguments)
            if name != LANGUAGE:
                checks[name]("a", **rule.arguments)
        except (TypeError, ValueError, AttributeError, DataError) as error:
            raise DataError(f"{where}: {name} cannot have the arguments {dict(rule.arguments)}: {error}") from error
        rules.append(rule)
    return tuple(rules)


def followed(rules: Seq[Rule], answer: str, checks: Mapping[str, Check]) -> list[bool]:
    """Say which rules an answer keeps, as it stands (strict); an empty one keeps none."""
    return [bool(answer.strip()) and bool(checks[rule.id](answer, **rule.arguments)) for rule in rules]


def loosely_followed(rules: Seq[Rule], answer: str, checks: Mapping[str, Check]) -> list[bool]:
    """Say which rules an answer keeps when asterisks, its first line or its last line may be taken away (loose)."""
    lines = answer.split("\n")
    pieces = [lines, lines[1:], lines[:-1], lines[1:-1]]
    texts = [answer, *("\n".join(piece).strip() for piece in pieces[1:])]
    results = [followed(rules, text, checks) for kept in texts for text in (kept, kept.replace("*", ""))]
    return [any(kept) for kept in zip(*results, strict=True)]
