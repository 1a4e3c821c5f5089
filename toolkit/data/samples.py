"""The audio of a split by the ids of its utterances, read when it is asked for: what an encoder hears."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toolkit.data.augmentation import copies_of, copy_name, distort
from toolkit.data.cuts import load_cut_audio
from toolkit.errors import DataError

if TYPE_CHECKING:
    from lhotse.cut import MonoCut


class SampleStore:
    """Samples of the utterances of one split and of their distorted copies.

    Args:
        cuts: of the split.
        sampling_rate: that the encoder wants, in Hz; other rates are resampled.
        most: seconds that the encoder takes.
        copies: of each utterance.
        longest: seconds; an utterance whose slowest copy could exceed it has no copies.

    Raises:
        DataError: an utterance is longer than the encoder takes.
    """

    def __init__(
        self, cuts: Seq[MonoCut], sampling_rate: int, *, most: float, copies: int = 0, longest: float = float("inf")
    ) -> None:
        self.sampling_rate = sampling_rate
        self.originals = len(cuts)
        """utterances, copies not counted"""
        self._cuts: dict[str, tuple[MonoCut, int]] = {}
        for cut in cuts:
            if cut.duration > most:
                raise DataError(
                    f"utterance '{cut.id}' lasts {cut.duration:.1f} s; the encoder takes {most:.0f} s: split it, or "
                    f"prepare again with prepare.max_duration={most:g} prepare.too_long=skip"
                )
            self._cuts[cut.id] = cut, 0
            for number in copies_of(cut.duration, copies, longest):
                self._cuts[copy_name(cut.id, number)] = cut, number

    @property
    def copied(self) -> int:
        """Return how many utterances have copies."""
        return sum(number == 1 for _, number in self._cuts.values())

    def __len__(self) -> int:
        return len(self._cuts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cuts)

    def duration(self, utterance: str) -> float:
        """Return the seconds of an utterance; for a copy, those of what it is a copy of."""
        return float(self._cuts[utterance][0].duration)

    def __getitem__(self, utterance: str) -> Tensor:
        """Return the samples of an utterance, (n,) in [-1, 1].

        Raises:
            DataError: the split has no such utterance, or its audio cannot be used.
        """
        if utterance not in self._cuts:
            raise DataError(f"there is no audio of '{utterance}' in this split: is encode.copies what it was?")
        cut, number = self._cuts[utterance]
        samples = load_cut_audio(cut, self.sampling_rate)
        if not number:
            return samples
        return torch.from_numpy(distort(samples.numpy(), self.sampling_rate, cut.id, number))
