"""Filters: answers that speech had better not learn are left out of training, each counted by its reason.

They look at text alone, and they are ours: short rules that one can read, not a judge. Dev and test are never filtered,
for what is measured there is the text LLM as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from difflib import SequenceMatcher

from toolkit.data.answers import Answer
from toolkit.data.tasks import Task
from toolkit.errors import check_names
from toolkit.scoring.detectors import loops
from toolkit.scoring.normalisation import basic

ECHO = 0.9
"""share of the words of transcript and answer together that stand in both, in order, from which it is an echo"""
FOREIGN_WORDS = 3
"""function words of another language from which an answer is in it, if it has fewer English ones"""

_CANNOT = r"i (can't|cannot|can not|am unable to|am not able to|won't)"
_SERVE = r"(help|assist|provide|fulfil|fulfill|comply|access|generate|answer|respond|process|complete|listen)"
_REFUSAL = re.compile(
    r"\bas an? (artificial intelligence|ai|(large )?language model)\b"
    rf"|^(i'm|i am|we're|we are) (so |very |really )?(sorry|afraid)( but)?( that)? ({_CANNOT}|i don't|i do not)\b"
    rf"|^(i'm|i am) (so |very |really )?sorry\b.{{1,60}} {_CANNOT} {_SERVE}\b"
    rf"|^(sorry|unfortunately|i apologi[sz]e|my apologies)( but)? ({_CANNOT}|i don't|i do not)\b"
    rf"|^{_CANNOT} {_SERVE}\b"
    r"|^i'm (unable|not able) to\b"
    r"|^i (don't|do not) have (access|the ability|enough information)\b"
)
"""looked for in lower case, without punctuation

Not what `scoring.refusals` looks for. That one counts, and is wide: it finds its phrases anywhere near the beginning.
This one takes answers away from training, and is narrow: an answer opens so, or calls itself an AI in these words. The
two cannot change together: a phrase more there mends a figure, here it trains another model by the same recipe.
"""
_ENGLISH = """
the of and to in is it you that he was for on are with as i his they be at this have from or had by but what some we can
out other were all there when your how said an each she which do their if will
"""
_OTHERS = {
    "de": "der das und ist nicht ein eine ich sie den mit sich auf für auch dem wird",
    "es": "el los las que por con para una está como pero más del su se",
    "fr": "le les des est une dans pour que qui avec sur pas vous nous je il",
    "it": "il che di per una con non sono gli della nel è anche",
    "nl": "het een van ik niet dat zijn voor met aan ook maar wordt",
    "pt": "o os que não uma para com por mais como mas é do da",
}
_FUNCTION_WORDS = frozenset(_ENGLISH.split())
_FOREIGN = {language: frozenset(words.split()) - _FUNCTION_WORDS for language, words in _OTHERS.items()}


@dataclass(frozen=True)
class Reply:
    """An answer and what it answers."""

    answer: Answer
    task: Task
    said: tuple[str, ...]
    """the transcripts of all that is asked about, as one text where they are read as one"""


def is_refusal(reply: Reply) -> bool:
    """Say whether the LLM declines, or speaks of itself as a machine; not where the speaker said so too."""
    return _declines(reply.answer.text) and not any(_declines(text) for text in reply.said)


def is_echo(reply: Reply) -> bool:
    """Say whether the answer repeats a transcript although the task is not to."""
    if reply.task.family == "transcription":
        return False
    answer = basic(reply.answer.text).split()
    matches = (SequenceMatcher(None, basic(text).split(), answer, autojunk=False) for text in reply.said)
    return any(match.ratio() >= ECHO for match in matches)


def is_loop(reply: Reply) -> bool:
    """Say whether some piece of the answer is repeated back to back."""
    return loops(reply.answer.text)


def is_cut(reply: Reply) -> bool:
    """Say whether the answer was stopped at the length limit."""
    return not reply.answer.complete


def is_foreign(reply: Reply) -> bool:
    """Say whether the answer is not English: most letters are not Latin, or its function words are another language's.

    A translation may be in any language, and an answer without function words, such as a list of names, in none.
    """
    if reply.task.family == "translation":
        return False
    letters = [x for x in reply.answer.text if x.isalpha()]
    if 2 * sum(not unicodedata.name(x, "").startswith("LATIN") for x in letters) > len(letters):
        return True
    words = basic(reply.answer.text).split()
    english = sum(word in _FUNCTION_WORDS for word in words)
    foreign = max(sum(word in theirs for word in words) for theirs in _FOREIGN.values())
    return foreign >= FOREIGN_WORDS and foreign > english


FILTERS: dict[str, Callable[[Reply], bool]] = {
    "refusal": is_refusal,
    "echo": is_echo,
    "loop": is_loop,
    "cut": is_cut,
    "language": is_foreign,
}


def check_filters(names: Seq[str]) -> None:
    """Look at the names of `imitate.filters`.

    Raises:
        UnknownNameError: there is no such filter.
    """
    check_names("filter in imitate.filters", names, FILTERS)


def dropped_by(names: Seq[str], reply: Reply) -> str | None:
    """Return the first of the filters that drops an answer, or None."""
    return next((name for name in names if FILTERS[name](reply)), None)


def _declines(text: str) -> bool:
    return _REFUSAL.search(basic(text)) is not None
