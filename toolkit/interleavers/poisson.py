"""Interleaving with spans of Poisson length, until a share of the words is heard.

SIMS (arXiv 2504.02398; slamkit's `poisson` selection): lengths from Poisson(10), spans that do not overlap,
until 0.3 of the words are speech. It rounds that share up; here it is kept on average, and exact to a word.
"""

import random

from toolkit.errors import ConfigError
from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.interleavers.runs import check_ratio, heard_count, plan_runs, scatter
from toolkit.types import Example, Plan


@INTERLEAVERS.register("poisson")
class PoissonInterleaver(Interleaver):
    """Keeps runs of Poisson length as speech, until `ratio` of the words are heard.

    A drawn length of 0 counts as 1; the last run drawn is cut where the ratio is reached.

    Args:
        ratio: share of the words that stay speech; 0.3 is SIMS'.
        mean: words in a run of speech on average, before the last is cut; 10 is SIMS'.
        learn_text: whether the model also learns to predict the text among the speech, as SIMS does.
    """

    def __init__(self, *, ratio: float = 0.3, mean: float = 10.0, learn_text: bool = False) -> None:
        if not mean > 0:
            raise ConfigError(f"interleaver.mean is an average number of words, more than 0, not {mean}")
        self.ratio = check_ratio(ratio)
        self.mean = mean
        self.learn_text = learn_text

    def plan(self, example: Example, rng: random.Random) -> Plan:
        """Plan runs of heard and read words; without word times the utterance stays speech."""
        count = len(example.words)
        left = heard_count(self.ratio, count, rng)
        runs: list[int] = []
        while left:
            runs.append(self._length(left, rng))
            left -= runs[-1]
        return plan_runs(example.words, example.duration, scatter(runs, count, rng), learn_text=self.learn_text)

    def _length(self, most: int, rng: random.Random) -> int:
        """Draw a length of 1 to `most`: the arrivals within `mean`, when one comes a unit of time on average."""
        arrivals, now = 0, rng.expovariate(1.0)
        while now < self.mean and arrivals < most:
            arrivals += 1
            now += rng.expovariate(1.0)
        return max(arrivals, 1)
