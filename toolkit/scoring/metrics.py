"""The measures: word errors, agreement with the text LLM, and accuracy on closed tasks.

Each measure is three things side by side: what is counted per row, the score as a function of the summed
counts (so that `bootstrap` can redo it), and its definition in words, which is printed with every table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq

import jiwer
import numpy as np
from sacrebleu.metrics import CHRF

from toolkit.errors import DataError
from toolkit.scoring.answers import Question
from toolkit.scoring.bootstrap import Array
from toolkit.scoring.normalisation import Normaliser, basic

TRANSCRIPTION = "transcribe"
"""the task whose reference is the true transcript"""
PERFECT = 100.0

WORD_ERRORS = (
    "(insertions + deletions + substitutions) / words of the true transcripts, in percent, summed over all "
    "answers before dividing; hypothesis and reference are normalised alike. It can exceed 100."
)
ACCURACY = (
    "Share of right answers on closed tasks, in percent. An answer is parsed to a choice if exactly one of "
    "the task's choices occurs in it as a whole word (longer choices are read first; case and punctuation do "
    "not count), and is right if the text LLM's own answer is parsed to the same choice. An unparsed answer "
    "is wrong, and counted; questions where the text LLM's own answer is unparsed are left out, and counted."
)


def agreement_definition() -> str:
    """Say exactly what the agreement is, with the signature of the similarity in it."""
    chrf = CHRF()
    chrf.sentence_score("a", ["a"])  # it has no signature before it has seen how many references there are
    return (
        "How near the answers come to those of the text LLM. Similarity is the chrF of an answer with the "
        "text LLM's own answer to the true transcript under the same prompt (sacrebleu sentence chrF, "
        f"{chrf.get_signature().format()}; two equal answers count 100, also when empty). Let a be its "
        "mean over a system's answers and b its mean over the text LLM's answers to ANOTHER utterance's "
        "transcript under the same prompts. Agreement = 100 (a - b) / (100 - b): 100 is the text LLM's own "
        "answer, 0 is an answer that knows the prompt but not the utterance, and below 0 is worse than that. "
        "The rows of a group are pooled. It cannot be measured where b = 100, that is where the answers do "
        f"not depend on the utterance. Task '{TRANSCRIPTION}' is left out: it has the word error rate."
    )


def word_errors(questions: Seq[Question], hypotheses: Seq[str], normaliser: Normaliser) -> Array:
    """Count the word errors of each answer to a transcription question.

    Returns:
        (N, 4): insertions, deletions, substitutions, words of the reference.

    Raises:
        DataError: a reference has no words after normalisation.
    """
    counts = np.zeros((len(questions), 4))
    for row, (question, hypothesis) in enumerate(zip(questions, hypotheses, strict=True)):
        reference = normaliser.apply(question.reference)
        if not reference:
            raise DataError(
                f"the transcript of {question.id} ({question.reference!r}) has no words after the normaliser "
                f"'{normaliser.name}': leave the utterance out, or choose another normaliser"
            )
        found = jiwer.process_words(reference, normaliser.apply(hypothesis))
        words = len(found.references[0])
        counts[row] = found.insertions, found.deletions, found.substitutions, words
    return counts


def word_error_rate(sums: Array) -> Array:
    """Percent errors from summed counts (..., 4) -> (...)."""
    rate: Array = 100 * sums[..., :3].sum(axis=-1) / sums[..., 3]
    return rate


def similarities(questions: Seq[Question], hypotheses: Seq[str]) -> Array:
    """Compute the chrF of each answer with its question's reference: (N,), 0 to 100."""
    chrf = CHRF()

    def similarity(reference: str, hypothesis: str) -> float:
        # sacrebleu gives 0 to two empty strings, by which the text LLM would disagree with itself.
        if reference.strip() == hypothesis.strip():
            return PERFECT
        return float(chrf.sentence_score(hypothesis, [reference]).score)

    pairs = zip(questions, hypotheses, strict=True)
    return np.array([similarity(question.reference, hypothesis) for question, hypothesis in pairs])


def above_zero(values: Array, zero: Array) -> Array:
    """How far answers are above the zero of the scale, and how far they could be.

    Args:
        values: (N,) similarities a_i of a system's answers.
        zero: (N,) similarities b_i of `other`, the text LLM's answers to another utterance's transcript.

    Returns:
        (N, 2): a_i - b_i and 100 - b_i.
    """
    return np.stack([values - zero, PERFECT - zero], axis=1)


def agreement(sums: Array) -> Array:
    """Agreement 100 (a - b) / (100 - b) from summed rows of `above_zero`, (..., 2) -> (...).

    Their means are a - b and 100 - b; summed so, the text LLM is exactly 100 and `other` exactly 0. NaN where
    b = 100.
    """
    points, room = sums[..., 0], sums[..., 1]
    return 100 * np.divide(points, room, out=np.full_like(room, np.nan), where=room > 1e-9)


def share(sums: Array) -> Array:
    """Percent from sums (..., 2) of hits and rows -> (...)."""
    result: Array = 100 * sums[..., 0] / sums[..., 1]
    return result


def parse_choice(answer: str, choices: Seq[str]) -> str | None:
    """Read which of the choices an answer names, in normalised form; None unless it is exactly one.

    Raises:
        DataError: a choice has no letters or digits, so that nothing could name it.
    """
    names = {basic(choice) for choice in choices}
    if "" in names:
        raise DataError(f"the choices {list(choices)} hold one without any letter or digit")
    # Longest first, so that "not a question" is not also read as "question".
    longest_first = "|".join(re.escape(name) for name in sorted(names, key=lambda name: (-len(name), name)))
    found = set(re.findall(rf"(?<!\S)(?:{longest_first})(?!\S)", basic(answer)))
    return found.pop() if len(found) == 1 else None
