"""What a request must draw where it is not the LLM's own answer: the transcript itself, or a label.

Supervised multi-task training, as SALMONN (arXiv 2310.13289) and WavLLM (arXiv 2404.00656) have it, needs labels. A
rule makes one of any transcript, so that labelled tasks exist where nobody annotated anything (the rules are ours);
else the label is what the corpus says of the utterance, such as the `kind` of egs/mini.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from toolkit.data.alignment import spoken_tokens
from toolkit.data.tasks import Request, Task
from toolkit.errors import DataError
from toolkit.types import Example


def spoken_words(text: str) -> list[str]:
    """Return the words of a transcript without the punctuation around them."""
    return [_bare(token) for token in spoken_tokens(text)]


def _bare(token: str) -> str:
    inside = [place for place, character in enumerate(token) if character.isalnum()]
    return token[inside[0] : inside[-1] + 1]


def first_word(text: str) -> str:
    """Return the first word; nothing where nothing is said."""
    return next(iter(spoken_words(text)), "")


def last_word(text: str) -> str:
    """Return the last word; nothing where nothing is said."""
    return next(reversed(spoken_words(text)), "")


def word_count(text: str) -> str:
    """Return how many words are said, in digits."""
    return str(len(spoken_words(text)))


def sentence_type(text: str) -> str:
    """Return `question` where a question mark ends the transcript, else `statement`: it needs punctuation."""
    return "question" if text.rstrip(" \"'”’)").endswith("?") else "statement"


RULES: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"first_word": first_word, "last_word": last_word, "sentence_type": sentence_type, "word_count": word_count}
)
"""label -> what makes it of a transcript"""


def known_target(task: Task, request: Request, example: Example) -> str | None:
    """Return what is to be answered, or None where only the text LLM can say.

    Args:
        task: of the request.
        request: what is asked; a text that the prompt gives beside the utterance counts as said.
        example: its utterance.

    Raises:
        DataError: the task's label is neither a rule nor what the corpus says of this utterance.
    """
    if task.target == "llm":
        return None
    whole = request.whole(example.transcript)
    if task.target == "transcript":
        return whole
    if task.label in RULES:
        return RULES[task.label](whole)
    if task.label not in example.metadata:
        raise DataError(
            f"task '{task.name}': nobody knows the label '{task.label}' of '{example.id}'. A label is one of "
            f"{', '.join(RULES)}, or what the corpus says of each utterance; here "
            f"{', '.join(sorted(example.metadata)) or 'nothing'}"
        )
    if whole != example.transcript:
        raise DataError(
            f"task '{task.name}': the label '{task.label}' is of one utterance, and the prompt gives the text of "
            "another beside it: set imitate.concatenated=0, or leave the task out of imitate.use"
        )
    return example.metadata[task.label]
