"""Span-level interleaving: runs of a fixed number of words are heard, at random places.

InSerter (arXiv 2503.02769) speaks spans of at least 5 words, and its best word-level setting has about 30 %
speech (figures at second hand: from notes on the paper). Where its spans lie is not published; that is ours.
"""

import random

from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.interleavers.runs import check_length, check_ratio, fixed_runs, heard_count, plan_runs, scatter
from toolkit.types import Example, Plan


@INTERLEAVERS.register("spans")
class SpansInterleaver(Interleaver):
    """Keeps runs of `length` words as speech, until `ratio` of the words are heard.

    The ratio is kept to less than a word, so one run may be shorter than the others; runs touch only where so
    much is heard that they must.

    Args:
        ratio: share of the words that stay speech; 0.3 is InSerter's.
        length: words in a run of speech; 5 is InSerter's least.
        learn_text: whether the model also learns to predict the text among the speech, as InSerter does.
    """

    def __init__(self, *, ratio: float = 0.3, length: int = 5, learn_text: bool = False) -> None:
        self.ratio = check_ratio(ratio)
        self.length = check_length("length", length)
        self.learn_text = learn_text

    def plan(self, example: Example, rng: random.Random) -> Plan:
        """Plan runs of heard and read words; without word times the utterance stays speech."""
        count = len(example.words)
        heard = scatter(fixed_runs(heard_count(self.ratio, count, rng), self.length), count, rng)
        return plan_runs(example.words, example.duration, heard, learn_text=self.learn_text)
