"""Sentence-level interleaving: whole sentences are heard or read.

InSerter (arXiv 2503.02769) compares sentences with spans of words: the spans are better, and for sentences
about 40 % speech is best (figures at second hand: from notes on the paper).
"""

import random
from collections.abc import Sequence as Seq
from itertools import pairwise

from toolkit.errors import ConfigError
from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.interleavers.runs import check_ratio, plan_runs
from toolkit.types import Example, Plan, Word

MARKS = ".!?…。！？"
"""what ends a sentence"""
CLOSING = "\"'”’»«)]}"
"""what may still follow the mark"""


def sentences_of(words: Seq[Word], marks: str = MARKS) -> list[range]:
    """Divide words after those that end in one of `marks`: the indices of each sentence, in order."""
    ends = [i + 1 for i, word in enumerate(words[:-1]) if word.text.rstrip(CLOSING).endswith(tuple(marks))]
    bounds = [0, *ends, len(words)] if words else []
    return [range(first, end) for first, end in pairwise(bounds)]


@INTERLEAVERS.register("sentences")
class SentencesInterleaver(Interleaver):
    """Keeps random whole sentences as speech, `ratio` of the words on average.

    The sentence that crosses the ratio is heard with the probability that makes the average true, so an
    utterance of one sentence is all speech or all text. A full stop after an abbreviation counts as an end.

    Args:
        ratio: share of the words that stay speech, to within a sentence; 0.4 is InSerter's.
        marks: punctuation that ends a sentence; add `,;:` for clauses.
        learn_text: whether the model also learns to predict the text among the speech, as InSerter does.
    """

    def __init__(self, *, ratio: float = 0.4, marks: str = MARKS, learn_text: bool = False) -> None:
        if not marks:
            raise ConfigError("interleaver.marks is the punctuation that ends a sentence, and is empty")
        self.ratio = check_ratio(ratio)
        self.marks = marks
        self.learn_text = learn_text

    def plan(self, example: Example, rng: random.Random) -> Plan:
        """Plan runs of heard and read sentences; without word times the utterance stays speech."""
        sentences = sentences_of(example.words, self.marks)
        left = self.ratio * len(example.words)
        heard: set[int] = set()
        for sentence in rng.sample(sentences, len(sentences)):
            if rng.random() * len(sentence) < left:
                heard.update(sentence)
            left -= len(sentence)
        return plan_runs(example.words, example.duration, heard, learn_text=self.learn_text)
