"""A plan that a person can read: what an interleaver makes of one utterance, with and without word times."""

import random
from dataclasses import replace

from toolkit.interfaces import Interleaver
from toolkit.types import Example, Plan, SpeechSegment, Word

TEXT = (
    "Good morning. My aunt grows tomatoes in the garden behind her house, and on Saturdays she sells them at the "
    "market. Do you know what they cost? I never asked."
)


def sample() -> Example:
    """Make an utterance of four sentences: 60 ms a letter, and a pause of 0.3 s after punctuation."""
    words, now = [], 0.2
    for text in TEXT.split():
        end = now + 0.06 * len(text)
        words.append(Word(text, round(now, 2), round(end, 2)))
        now = end + (0.3 if text[-1] in ".,?" else 0.0)
    return Example("sample", round(now, 2), TEXT, tuple(words))


def example(interleaver: Interleaver, seed: int = 0) -> str:
    """Render the plans of a sample utterance, a line for each segment; words in brackets are heard."""
    whole = sample()
    blind = replace(whole, words=())
    return "\n".join(
        [
            f"{len(whole.words)} words in {whole.duration:.2f} s; (heard), read",
            *_lines(interleaver.plan(whole, random.Random(seed)), whole.words),
            "the same utterance without word times",
            *_lines(interleaver.plan(blind, random.Random(seed)), whole.words),
        ]
    )


def _lines(plan: Plan, words: tuple[Word, ...]) -> list[str]:
    lines = []
    for segment in plan:
        if isinstance(segment, SpeechSegment):
            said = (w.text for w in words if segment.start <= (w.start + w.end) / 2 < segment.end)
            lines.append(f"  speech {segment.start:6.2f} to {segment.end:5.2f} s  ({' '.join(said)})")
        else:
            learnt = "learnt" if segment.supervised else ""
            lines.append(f"  text   {learnt:<17} {segment.text}")
    return lines
