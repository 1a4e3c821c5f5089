"""Word-level interleaving: a random share of the words is heard, the rest is read.

MTBI (arXiv 2505.18644) interleaves speech and text in the training input; its unit and ratio are not
published, so both are ours. Whole words are the unit of InSerter's better setting (arXiv 2503.02769).
"""

import random

from toolkit.errors import ConfigError
from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.types import Example, Plan, Segment, SpeechSegment, TextSegment


@INTERLEAVERS.register("words")
class WordsInterleaver(Interleaver):
    """Keeps `ratio` of the words as speech, drawn at random, and gives the others as text."""

    def __init__(self, *, ratio: float = 0.5) -> None:
        if not 0 <= ratio <= 1:
            raise ConfigError(f"interleaver.ratio is the share of words that stay speech, 0 to 1, not {ratio}")
        self.ratio = ratio

    def plan(self, example: Example, rng: random.Random) -> Plan:
        """Plan alternating runs of heard and read words.

        A heard run reaches to the middle of the pauses around it, the first and last to the ends of the
        cut, so that all-speech is exactly the speech view. Without word times the utterance stays speech.
        """
        words = example.words
        if not words:
            return (SpeechSegment(0.0, example.duration),)
        heard = set(rng.sample(range(len(words)), round(self.ratio * len(words))))
        segments: list[Segment] = []
        first = 0
        while first < len(words):
            last = first
            while last + 1 < len(words) and (last + 1 in heard) == (first in heard):
                last += 1
            if first in heard:
                start = (words[first - 1].end + words[first].start) / 2 if first else 0.0
                end = (words[last].end + words[last + 1].start) / 2 if last + 1 < len(words) else example.duration
                segments.append(SpeechSegment(start, end))
            else:
                segments.append(TextSegment(" ".join(word.text for word in words[first : last + 1])))
            first = last + 1
        return tuple(segments)
