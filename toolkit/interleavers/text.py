"""The text view: the transcript alone. The teacher's view, and the topline's."""

import random

from toolkit.interfaces import INTERLEAVERS, Interleaver
from toolkit.types import Example, Plan, TextSegment


@INTERLEAVERS.register("text")
class TextInterleaver(Interleaver):
    """Gives the transcript and no speech."""

    def plan(self, example: Example, rng: random.Random) -> Plan:
        """Plan one text segment with the whole transcript."""
        return (TextSegment(example.transcript),)
