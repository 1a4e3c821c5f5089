"""Fills a store with the answers that are missing in it, and shows how far it is."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from toolkit.data.answers import AnswerStore, Generate, Question
from toolkit.data.journals import WHOLE, Part
from toolkit.stages.progress import bar, say

AHEAD = 4
"""batches of questions that are asked together, so that those that wait take the places of those that have ended"""


def fill(
    store: AnswerStore,
    questions: Seq[Question],
    generate: Generate,
    batch_size: int,
    title: str,
    part: Part = WHOLE,
    jobs: int = 1,
) -> None:
    """Answer what is missing of a part, with a bar; say so when nothing is.

    Args:
        store: where the answers are kept.
        questions: what is asked, of which some may be answered.
        generate: answers several batches.
        batch_size: questions that are answered at once.
        title: of the bar.
        part: of all the work.
        jobs: processes that share the part.
    """
    chunk = batch_size * batches_ahead(len(questions), batch_size, part.of * jobs)
    missing = len(store.missing(questions, chunk, part))
    if not missing:
        if part.whole:
            store.settle(questions)  # parts that were answered elsewhere
        say(f"{title}: done ({len(questions)} answers in {store.path})")
        return
    with bar(title, missing) as progress:
        for count in store.fill(questions, generate, chunk, part):
            progress.advance(count)


def batches_ahead(count: int, batch_size: int, shares: int) -> int:
    """Return how many batches are asked together; where the work is shared, so few that all shares are about even."""
    return max(1, min(AHEAD, count // (batch_size * (1 if shares == 1 else shares * AHEAD))))
