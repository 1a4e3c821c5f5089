"""Alternating interleaving: so many words of speech, so many of text, and again, with nothing drawn but who begins.

A policy of the field without published lengths; 5 words, InSerter's least span (arXiv 2503.02769), are ours here.
"""

import random

from toolkit.errors import ConfigError
from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.interleavers.runs import plan_runs
from toolkit.types import Example, Plan

BEGINNINGS = ("random", "speech", "text")


@INTERLEAVERS.register("alternating")
class AlternatingInterleaver(Interleaver):
    """Alternates strictly between runs of speech and runs of text.

    The share of speech is `speech_words / (speech_words + text_words)`, to within a run.

    Args:
        speech_words: words in a run of speech; 0 is the text view.
        text_words: words in a run of text; 0 is the speech view.
        first: which kind begins: `random` (each as often as the other), `speech` or `text`.
        learn_text: whether the model also learns to predict the text among the speech.
    """

    def __init__(
        self, *, speech_words: int = 5, text_words: int = 5, first: str = "random", learn_text: bool = False
    ) -> None:
        if min(speech_words, text_words) < 0 or speech_words + text_words == 0:
            raise ConfigError(
                "interleaver.speech_words and interleaver.text_words are numbers of words, 0 or more and not both 0, "
                f"not {speech_words} and {text_words}"
            )
        if first not in BEGINNINGS:
            raise ConfigError(f"interleaver.first is one of {', '.join(BEGINNINGS)}, not '{first}'")
        self.speech_words = speech_words
        self.text_words = text_words
        self.first = first
        self.learn_text = learn_text

    def plan(self, example: Example, rng: random.Random) -> Plan:
        """Plan runs of heard and read words; without word times the utterance stays speech."""
        first = rng.choice(BEGINNINGS[1:]) if self.first == "random" else self.first
        skipped = self.speech_words if first == "text" else 0
        period = self.speech_words + self.text_words
        count = len(example.words)
        heard = {index for index in range(count) if (index + skipped) % period < self.speech_words}
        return plan_runs(example.words, example.duration, heard, learn_text=self.learn_text)
