"""Word-level interleaving: a random share of the words is heard, the rest is read.

MTBI (arXiv 2505.18644) interleaves speech and text in the training input; its unit and ratio are not
published, so both are ours. Whole words are the unit of InSerter's better setting (arXiv 2503.02769).
"""

import random

from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.interleavers.runs import check_ratio, plan_runs
from toolkit.types import Example, Plan


@INTERLEAVERS.register("words")
class WordsInterleaver(Interleaver):
    """Keeps `ratio` of the words as speech, drawn at random, and gives the others as text.

    Args:
        ratio: share of the words that stay speech.
        learn_text: whether the model also learns to predict the text among the speech.
    """

    def __init__(self, *, ratio: float = 0.5, learn_text: bool = False) -> None:
        self.ratio = check_ratio(ratio)
        self.learn_text = learn_text

    def plan(self, example: Example, rng: random.Random) -> Plan:
        """Plan runs of heard and read words; without word times the utterance stays speech."""
        words = example.words
        heard = set(rng.sample(range(len(words)), round(self.ratio * len(words))))
        return plan_runs(words, example.duration, heard, learn_text=self.learn_text)
