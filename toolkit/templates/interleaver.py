"""The interleaver `new_part`. Say here which idea it is, and whose: paper, arXiv id."""

import math
import random

from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.interleavers.runs import check_ratio, plan_runs
from toolkit.types import Example, Plan


@INTERLEAVERS.register("new_part")
class NewPartInterleaver(Interleaver):
    """Hears words at even distances, every second one at the ratio of a half, and reads the others."""

    # What is keyword-only is configuration: `interleaver.ratio=0.25`.
    def __init__(self, *, ratio: float = 0.5, learn_text: bool = False) -> None:
        self.ratio = check_ratio(ratio)
        self.learn_text = learn_text

    def plan(self, example: Example, rng: random.Random) -> Plan:
        """Plan runs of heard and read words; without word times the utterance stays speech."""
        # `rng` is the only source of chance that a plan may use; this one needs none.
        due = [math.floor(self.ratio * number) for number in range(len(example.words) + 1)]
        heard = {index for index in range(len(example.words)) if due[index + 1] > due[index]}
        return plan_runs(example.words, example.duration, heard, learn_text=self.learn_text)
