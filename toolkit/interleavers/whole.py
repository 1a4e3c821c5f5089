"""The speech view: the whole utterance as one span of speech, nothing interleaved."""

import random

from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.types import Example, Plan, SpeechSegment


@INTERLEAVERS.register("whole")
class WholeInterleaver(Interleaver):
    """Gives the whole utterance as speech."""

    def plan(self, example: Example, rng: random.Random) -> Plan:
        """Plan one speech segment from the start to the end of the cut."""
        return (SpeechSegment(0.0, example.duration),)
