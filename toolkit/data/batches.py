"""Examples -> batches: which examples share a step, and what the model gets of each.

The order is a function of (seed, step) alone, and what is drawn of an example one of (seed, epoch): so a run that was
interrupted goes on with the very batches it would have had, and every rank can work out its own share
(`toolkit.data.order`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from toolkit.data.budget import Budget
from toolkit.data.costs import Costs
from toolkit.data.order import StepOrder, turns
from toolkit.data.teacher import TeacherStore, text_view
from toolkit.data.tokenization import ChatTokenizer
from toolkit.data.views import Views
from toolkit.types import Batch, Example, Padded, Plan, Sequence, SpeechSegment, TopK


@dataclass(frozen=True)
class Collator:
    """Makes a batch of examples.

    Args:
        tokenizer: of the decoder.
        views: decide what is speech.
        load: utterance id -> cached frames (T, D), or samples (n,).
        teacher: whether the text view of the same examples is wanted too.
        audio: whether `load` gives samples.
        stored: what was kept of the teacher; None runs it.
    """

    tokenizer: ChatTokenizer
    views: Views
    load: Callable[[str], Tensor]
    teacher: bool
    audio: bool = False
    stored: TeacherStore | None = None

    def __call__(self, examples: Seq[Example], epoch: int, step: int) -> Batch:
        """Plan, tokenise and load; `epoch` makes the interleaving differ from pass to pass."""
        plans = [self.views(example, epoch, step) for example in examples]
        texts = tuple(text_view(self.tokenizer, example) for example in examples) if self.teacher else None
        utterances = [said for example in examples for said in example.utterances]
        speech = Padded.of([self.load(said.id) for said in utterances])
        sequences = tuple(self.tokenizer.sequence(e, *p) for e, p in zip(examples, plans, strict=True))
        return Batch(
            ids=tuple(example.id for example in examples),
            sequences=sequences,
            audio=speech if self.audio else None,
            frames=None if self.audio else speech,
            teacher_sequences=texts,
            transcripts=Padded.of([torch.tensor(self.tokenizer.transcript(said.transcript)) for said in utterances]),
            token_times=Padded.of([self.token_times(said) for said in utterances]),
            recordings=numbered([len(example.utterances) for example in examples]),
            spoken=tuple(self.spoken(*row) for row in zip(examples, plans, sequences, strict=True)),
            end_of_turn=self.tokenizer.end_of_turn,
            stored_teacher=None if texts is None or self.stored is None else TopK.cat([self.stored[t] for t in texts]),
        )

    def spoken(self, example: Example, plans: Seq[Plan], sequence: Sequence) -> tuple[tuple[int, ...], ...]:
        """Return the tokens said in each piece of speech of a row: those of the words whose middle it holds.

        A recording in one piece is its transcript, whether anybody knows word times or not; else there are none
        without them.
        """
        return tuple(
            self._said(example.utterances[s.recording], s, whole=len(plans[s.recording]) == 1)
            for s in sequence
            if isinstance(s, SpeechSegment)
        )

    def _said(self, utterance: Example, piece: SpeechSegment, *, whole: bool) -> tuple[int, ...]:
        held = (word.text for word in utterance.words if piece.start <= (word.start + word.end) / 2 < piece.end)
        text = utterance.transcript if whole else " ".join(held)
        return self.tokenizer.transcript(text) if text else ()

    def token_times(self, example: Example) -> Tensor:
        """Divide the time of each word evenly among its tokens: (N, 2) seconds, NaN without word times."""
        times: list[tuple[float, float]] = []
        for word in example.words:
            count = len(self.tokenizer.transcript(word.text))
            share = (word.end - word.start) / count
            times.extend((word.start + i * share, word.start + (i + 1) * share) for i in range(count))
        count = len(self.tokenizer.transcript(example.transcript))
        return torch.tensor(times) if len(times) == count else torch.full((count, 2), torch.nan)


def numbered(counts: Seq[int]) -> tuple[tuple[int, ...], ...]:
    """Number the recordings of rows that have so many each: (1, 2) -> ((0,), (1, 2))."""
    ends = accumulate(counts)
    return tuple(tuple(range(end - count, end)) for end, count in zip(ends, counts, strict=True))


class StepStream(IterableDataset[list[Batch]]):
    """The micro-batches of one optimiser step after another.

    Args:
        examples: what to train on.
        costs: of each in an epoch, by which batch mates are chosen.
        collate: makes a batch.
        size: examples a step over all ranks.
        micro: examples a forward pass; 0 means all.
        steps: (first, last + 1).
        seed: of the order.
        rank: this process.
        world: processes.
        budget: as for `StepOrder`.
    """

    def __init__(
        self,
        examples: Seq[Example],
        costs: Costs,
        collate: Collator,
        size: int,
        micro: int,
        steps: tuple[int, int],
        seed: int,
        rank: int = 0,
        world: int = 1,
        budget: Budget | None = None,
    ) -> None:
        self.examples = examples
        self.collate = collate
        self.steps = steps
        self.rank = rank
        self.world = world
        self.order = StepOrder(len(examples), costs, size, micro, seed, budget)

    def __iter__(self) -> Iterator[list[Batch]]:
        worker = get_worker_info()
        for step in turns(self.steps, *((worker.id, worker.num_workers) if worker else ())):
            epoch = self.order.epoch_of(step)
            yield [
                replace(self.collate([self.examples[i] for i in share.rows], epoch, step), idle=share.idle)
                for share in self.order(step, self.rank, self.world)
            ]

    def __len__(self) -> int:
        # All steps, not those that are left: Lightning compares it with a counter that a resumed run restores.
        return self.steps[1]
