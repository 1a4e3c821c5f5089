"""Keyword interleaving: the longest words are read, the short ones between them are heard.

Long words are mostly the rare ones, which are hard to hear. Ours: neither the idea nor its share is from a paper.
"""

import random
from itertools import groupby, pairwise

from toolkit.errors import ConfigError
from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.types import Example, Plan, Segment, SpeechSegment, TextSegment


@INTERLEAVERS.register("keywords")
class KeywordsInterleaver(Interleaver):
    """Gives the longest words as text and keeps `ratio` of the words, the shortest, as speech.

    Args:
        ratio: share of the words that stay speech.
        learn_text: whether the model also learns to predict the text among the speech.
    """

    def __init__(self, *, ratio: float = 0.7, learn_text: bool = False) -> None:
        if not 0 <= ratio <= 1:
            raise ConfigError(f"interleaver.ratio is the share of words that stay speech, 0 to 1, not {ratio}")
        self.ratio = ratio
        self.learn_text = learn_text

    def plan(self, example: Example, rng: random.Random) -> Plan:
        """Plan runs of short and long words; without word times the utterance stays speech."""
        words = example.words
        if not words:
            return (SpeechSegment(0.0, example.duration),)
        # Of words of one length, chance says which are heard: the first ones would be heard in every utterance.
        order = sorted(range(len(words)), key=lambda i: (sum(map(str.isalnum, words[i].text)), rng.random()))
        heard = set(order[: round(self.ratio * len(words))])
        # A cut lies in the middle of the pause, so that all-speech is the whole utterance.
        middles = [(left.end + right.start) / 2 for left, right in pairwise(words)]
        cuts = [0.0, *middles, example.duration]
        segments: list[Segment] = []
        for is_heard, group in groupby(range(len(words)), key=heard.__contains__):
            run = list(group)
            if is_heard:
                segments.append(SpeechSegment(cuts[run[0]], cuts[run[-1] + 1]))
            else:
                segments.append(TextSegment(" ".join(words[i].text for i in run), self.learn_text))
        return tuple(segments)
