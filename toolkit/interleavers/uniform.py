"""Interleaving without an alignment: the time of the cut is divided among the words by their length.

For corpora that nobody has aligned. The clock is a guess: a cut may fall within a word, and what is heard may
then repeat or lack a bit of the text around it. By index every word is still given exactly once. Ours; no paper.
"""

import random
from itertools import accumulate

from toolkit.errors import ConfigError
from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.interleavers.runs import check_length, check_ratio, fixed_runs, heard_count, plan_runs, scatter
from toolkit.types import Example, Plan, Word

ESTIMATES = ("missing", "always")


def estimated_words(transcript: str, duration: float) -> tuple[Word, ...]:
    """Guess word times: each word lasts its share of the letters and digits, without pauses.

    A token of punctuation only takes the time of one letter.

    Args:
        transcript: what is said.
        duration: of the cut, in seconds.
    """
    texts = transcript.split()
    letters = [max(sum(character.isalnum() for character in text), 1) for text in texts]
    bounds = [duration * (done / sum(letters)) for done in accumulate(letters, initial=0)] if texts else []
    return tuple(Word(text, start, end) for text, start, end in zip(texts, bounds, bounds[1:], strict=False))


@INTERLEAVERS.register("uniform")
class UniformInterleaver(Interleaver):
    """Keeps runs of `length` words as speech, at times guessed from the length of the words.

    Args:
        ratio: share of the words that stay speech.
        length: words in a run of speech; the longer, the less a wrong cut matters.
        estimate: when times are guessed: where they are `missing`, or `always`, which shows what an
            alignment is worth.
        learn_text: whether the model also learns to predict the text among the speech.
    """

    def __init__(
        self, *, ratio: float = 0.3, length: int = 5, estimate: str = "missing", learn_text: bool = False
    ) -> None:
        if estimate not in ESTIMATES:
            raise ConfigError(f"interleaver.estimate is one of {', '.join(ESTIMATES)}, not '{estimate}'")
        self.ratio = check_ratio(ratio)
        self.length = check_length("length", length)
        self.estimate = estimate
        self.learn_text = learn_text

    def plan(self, example: Example, rng: random.Random) -> Plan:
        """Plan runs of heard and read words; only an empty transcript makes the utterance stay speech."""
        known = example.words if self.estimate == "missing" else ()
        words = known or estimated_words(example.transcript, example.duration)
        heard = scatter(fixed_runs(heard_count(self.ratio, len(words), rng), self.length), len(words), rng)
        return plan_runs(words, example.duration, heard, learn_text=self.learn_text)
