"""How fetching tells what it is doing, without deciding how that is shown."""

from enum import StrEnum
from typing import Protocol


class Step(StrEnum):
    """What is being done, in words for the user."""

    WAIT = "waiting for another fetch to end"
    DOWNLOAD = "downloading"
    CHECK = "unpacking and checking"
    CONVERT = "converting, up to a minute"
    READY = "ready"
    KEPT = "already there"


class Report(Protocol):
    """A callback that is told of each step and, now and then, how far it is."""

    def __call__(self, asset: str, step: Step, done: int, total: int) -> None:
        """Take note.

        Args:
            asset: name of the asset.
            step: what is being done to it.
            done: how much of the step is done (bytes).
            total: how much there is to do (bytes); 0 if that is unknown.
        """


def silent(asset: str, step: Step, done: int, total: int) -> None:
    """Take no note."""
