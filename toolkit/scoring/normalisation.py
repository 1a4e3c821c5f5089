"""Text normalisers: what two transcripts may differ in without an error being counted.

A word error rate means nothing without the name of its normaliser, so each one describes itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from toolkit.errors import unknown_name

APOSTROPHES = str.maketrans("’ʼ＇", "'''")


@dataclass(frozen=True)
class Normaliser:
    """A function from text to text with a name and an exact description."""

    name: str
    description: str
    apply: Callable[[str], str]


def basic(text: str) -> str:
    """Lower the case and turn all but letters, marks, digits and apostrophes inside words into spaces."""
    letters = unicodedata.normalize("NFKC", text).translate(APOSTROPHES).lower()
    kept = "".join(x if x == "'" or unicodedata.category(x)[0] in "LMN" else " " for x in letters)
    return " ".join(word for word in (word.strip("'") for word in kept.split()) if word)


def spaces_only(text: str) -> str:
    """Only make every run of white space one space, which is what separates words."""
    return " ".join(text.split())


def _basic() -> Normaliser:
    return Normaliser("basic", "basic: lower case, no punctuation but apostrophes inside words", basic)


def _none() -> Normaliser:
    return Normaliser("none", "none: words are compared as written", spaces_only)


def _english() -> Normaliser:
    # The one use of transformers here; the module is plain Python and loads no torch.
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    # Whisper's table of British and American spellings comes with its checkpoints, not with transformers.
    normalise = EnglishTextNormalizer({})
    return Normaliser(
        "english",
        f"english: Whisper's EnglishTextNormalizer as in transformers {version('transformers')}, "
        "without its table of British and American spellings, which is not packaged",
        lambda text: spaces_only(normalise(text)),
    )


NORMALISERS: dict[str, Callable[[], Normaliser]] = {"english": _english, "basic": _basic, "none": _none}


def normaliser(name: str) -> Normaliser:
    """Return a normaliser by name.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in NORMALISERS:
        raise unknown_name("normaliser", name, list(NORMALISERS))
    return NORMALISERS[name]()
