"""Which view of an example a training has: plain speech, text alone, or what the interleaver makes of it.

It is drawn in each epoch anew, and is a function of (seed, epoch, example): so what a row costs is known before
batches are made (`toolkit.data.drawn_costs`), whoever makes them. A curriculum alone looks at the step.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.data.seeding import seeded
from toolkit.errors import ConfigError
from toolkit.interfaces import Interleaver
from toolkit.types import Example, Plan, SpeechSegment, TextSegment


@dataclass(frozen=True)
class Shares:
    """How many of the examples are plain speech, how many text alone; the interleaver has the rest.

    InSerter (arXiv 2503.02769) mixes 40 % interleaved rows, 30 % speech tasks and 30 % text. The curriculum of
    the plain speech is ours: a function of the step alone, so that resumed runs and ranks agree. Text alone is
    read and not supervised, whatever the interleaver does with its text; the answer to it is supervised.

    Args:
        speech: share of plain speech.
        text: share of text alone.
        start: share of plain speech at step 0; None is no curriculum.
        steps: after which the share of plain speech is `speech`; 0 is no curriculum.

    Raises:
        ConfigError: a share is not between 0 and 1, or the shares add up to more than 1.
    """

    speech: float
    text: float = 0.0
    start: float | None = None
    steps: int = 0

    def __post_init__(self) -> None:
        for key, share in (
            ("speech_share", self.speech),
            ("speech_share_start", self.start),
            ("text_share", self.text),
        ):
            if share is not None and not 0 <= share <= 1:
                raise ConfigError(f"train.{key} is a share of the examples, 0 to 1, not {share}")
        for key, share in (("speech_share", self.speech), ("speech_share_start", self.start)):
            if share is not None and share + self.text > 1 + 1e-9:
                raise ConfigError(
                    f"train.{key}={share} and train.text_share={self.text} add up to more than 1: lower one of them"
                )
        if self.steps < 0:
            raise ConfigError(f"train.curriculum_steps is a number of steps, 0 or more, not {self.steps}")
        if (self.start is None) != (self.steps == 0):
            raise ConfigError("a curriculum needs train.speech_share_start and train.curriculum_steps; one is given")

    @property
    def plain(self) -> bool:
        """Whether every example is plain speech, at every step."""
        return self.speech >= 1 and self.start in (None, 1)

    def speech_at(self, step: int) -> float:
        """Return the share of plain speech at a step: on the line from `start` to `speech`, then `speech`."""
        if self.start is None or step >= self.steps:
            return self.speech
        return self.start + (self.speech - self.start) * step / self.steps


@dataclass(frozen=True)
class Views:
    """Decides what of each example is speech.

    Args:
        interleaver: of what is neither plain speech nor text alone.
        shares: which of the examples the interleaver does not get.
        seed: of the draws.
    """

    interleaver: Interleaver
    shares: Shares
    seed: int

    def __call__(self, example: Example, epoch: int, step: int) -> tuple[Plan, ...]:
        """Plan each utterance of an example as an epoch has it, with the shares of a step."""
        rng = seeded(self.seed, epoch, example.id, example.prompt)
        draw, speech = rng.random(), self.shares.speech_at(step)  # one draw for all utterances
        if draw < speech:
            return tuple((SpeechSegment(0.0, said.duration),) for said in example.utterances)
        if draw < speech + self.shares.text:
            return tuple((TextSegment(said.transcript),) for said in example.utterances)
        return tuple(self.interleaver.plan(said, rng) for said in example.utterances)
