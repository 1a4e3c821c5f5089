"""The values that cross the seams between parts.

Letters used in all shapes: B utterances or rows, R recordings of the rows (one each, unless a row has several),
S spans of speech, T time steps, U embeddings, D width, V vocabulary, M supervised positions, N tokens. Times are
seconds from the start of the cut until the splice turns them into frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from toolkit.distributions import Outputs as Outputs
from toolkit.distributions import TopK as TopK


@dataclass(frozen=True)
class Padded:
    """A batch of right-padded rows; what stands at and past a row's length means nothing."""

    values: Tensor
    """(B, T, ...)"""
    lengths: Tensor
    """(B,) int64, the valid steps of each row"""

    @classmethod
    def of(cls, rows: Seq[Tensor]) -> Padded:
        """Pad `rows`, each (T_i, ...), with zeros to the longest."""
        lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
        return cls(nn.utils.rnn.pad_sequence(list(rows), batch_first=True), lengths)

    @property
    def mask(self) -> Tensor:
        """True where there is data: (B, T) bool."""
        steps = torch.arange(self.values.shape[1], device=self.values.device)
        return steps < self.lengths.to(self.values.device)[:, None]

    def zeroed(self) -> Tensor:
        """Return the values with zeros in the padding; masked, not multiplied, since NaN * 0 is NaN."""
        mask = self.mask.reshape(self.mask.shape + (1,) * (self.values.dim() - 2))
        return self.values.masked_fill(~mask, 0)

    def unpad(self) -> list[Tensor]:
        """Return the rows without padding: B tensors (T_i, ...)."""
        return [row[:n] for row, n in zip(self.values, self.lengths.tolist(), strict=True)]

    def to(self, device: torch.device | str) -> Padded:
        """Return the same rows on `device`."""
        return Padded(self.values.to(device), self.lengths.to(device))


@dataclass(frozen=True)
class Word:
    """A spoken word and when it is said."""

    text: str
    start: float
    """seconds from the start of the cut"""
    end: float
    """seconds from the start of the cut"""


@dataclass(frozen=True)
class TextSegment:
    """A piece of the utterance that the model gets as text."""

    text: str
    supervised: bool = False
    """whether the model also learns to predict this text"""


@dataclass(frozen=True)
class SpeechSegment:
    """A piece of the utterance that the model gets as speech."""

    start: float
    """seconds"""
    end: float
    """seconds"""
    recording: int = 0
    """which of the row's recordings it is cut from; an interleaver sees one and leaves it at 0"""


Segment = TextSegment | SpeechSegment
Plan = tuple[Segment, ...]
"""What an interleaver decides: which pieces of one utterance are speech and which are text, in order."""


@dataclass(frozen=True)
class Turn:
    """An earlier turn of a conversation: what the user said, and what was answered. Nothing is learnt from it."""

    prompt: str
    """it may hold slots for recordings, as the last prompt may"""
    response: str


@dataclass(frozen=True)
class Example:
    """An utterance, what the user asks about it, and the answer to imitate."""

    id: str
    duration: float
    """seconds"""
    transcript: str
    words: tuple[Word, ...] = ()
    """empty where there is no usable alignment: such an utterance stays plain speech"""
    prompt: str = "{speech}"
    """what the user says; `{speech}` is where the utterance goes, `{speech2}` where the first of `others` does"""
    response: str = ""
    response_complete: bool = True
    """False where the answer was cut at the length limit, so that no end of turn is trained after it"""
    others: tuple[Example, ...] = ()
    """the utterances of `{speech2}`, `{speech3}` and so on: what is said in them counts, and nothing else"""
    history: tuple[Turn, ...] = ()
    """the turns before the prompt, the oldest first"""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    """what the corpus says of the utterance beside the transcript, such as its kind: labels of labelled tasks"""

    @property
    def utterances(self) -> tuple[Example, ...]:
        """The utterances in the order of their slots' numbers: this one, and the others."""
        return (self, *self.others)


@dataclass(frozen=True)
class TokenPiece:
    """A run of tokens of the decoder's vocabulary."""

    token_ids: tuple[int, ...]
    supervised: bool = False


Piece = TokenPiece | SpeechSegment
Sequence = tuple[Piece, ...]
"""One row for the decoder: token runs, and speech that the splice replaces by embeddings."""


@dataclass(frozen=True)
class Batch:
    """What the data side hands to the model. Exactly one of `audio` and `frames` is given."""

    ids: tuple[str, ...]
    sequences: tuple[Sequence, ...]
    """what the student reads"""
    audio: Padded | None = None
    """(R, samples)"""
    frames: Padded | None = None
    """(R, T, D) cached encoder output"""
    teacher_sequences: tuple[Sequence, ...] | None = None
    """the text view of the same examples: the very same targets"""
    transcripts: Padded | None = None
    """(R, N) token ids of the transcripts alone"""
    token_times: Padded | None = None
    """(R, N, 2) seconds from and to which each of those tokens is said; NaN where nobody knows"""
    recordings: tuple[tuple[int, ...], ...] = ()
    """of each row, its recordings among the R; empty where each row has one, its own"""
    spoken: tuple[tuple[tuple[int, ...], ...], ...] | None = None
    """of each row, for each of its pieces of speech, the tokens of what is said in it; none where nobody knows"""
    end_of_turn: int = -1
    """the token that the decoder's chat template puts after an answer; -1 where nobody says"""
    stored_teacher: TopK | None = None
    """what the teacher says at the supervised positions of the text view, from a store: the teacher is then not run"""
    idle: bool = False
    """whether nothing of it counts here: the rows are another rank's, and this one has none in a pass of all ranks"""

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch with its tensors on `device`."""

        def move(x: Padded | None) -> Padded | None:
            return None if x is None else x.to(device)

        return replace(
            self, audio=move(self.audio), frames=move(self.frames), transcripts=move(self.transcripts),
            token_times=move(self.token_times), stored_teacher=self.stored_teacher and self.stored_teacher.to(device),
        )  # fmt: skip


@dataclass(frozen=True)
class SpanOutputs:
    """What an adapter that emits tokens says before the decoder is run."""

    logits: Padded
    """(B, T, K + 1): label 0 is the blank, label k is the adapter's token k - 1"""
    targets: Padded
    """(B, N) labels 1..K of the transcript"""
    alignment: Tensor | None = None
    """(B, T) the label of each step by the word times, -1 where they say nothing"""


@dataclass(frozen=True)
class Quantities:
    """How many outputs an adapter gives to each utterance before rounding, and how many it should."""

    found: Tensor
    """(B,) with a gradient"""
    wanted: Tensor
    """(B,) tokens of the transcript"""


@dataclass(frozen=True)
class SpanEmbeddings:
    """What the decoder is given for each span of speech, and what it would be given for the words said in it."""

    speech: tuple[Tensor, ...]
    """S tensors (u, D), u >= 1, the adapter's embeddings with a gradient"""
    text: tuple[Tensor, ...]
    """S tensors (n, D), the decoder's own embeddings of the tokens, without one"""
    tokens: tuple[tuple[int, ...], ...]
    """of each span, its n tokens; none where nobody knows what is said in it"""
    rows: tuple[int, ...]
    """of each span, the row of the batch that it is in"""


@dataclass(frozen=True)
class LossInputs:
    """Everything a loss may look at; a loss gets only what it declares in `needs`."""

    targets: Tensor
    """(M,) token ids to predict; already shifted, only supervised positions"""
    student: Outputs | None = None
    teacher: Outputs | None = None
    spans: SpanOutputs | None = None
    quantities: Quantities | None = None
    embeddings: SpanEmbeddings | None = None
    starts: Tensor | None = None
    """(M,) bool, True at the first token of each run of targets, such as an answer; given with `student`"""
    end_of_turn: int = -1
    """the target that ends a turn; -1 where nobody says"""
    stored_teacher: TopK | None = None
    """given in the place of `teacher` to a loss that takes it"""


@dataclass(frozen=True)
class LossOutput:
    """A loss summed, not averaged, so that steps can be divided by their true number of tokens."""

    total: Tensor
    """scalar: the sum over `count` items"""
    count: int
    parts: dict[str, Tensor] = field(default_factory=dict)
    """detached sums to log, divided like the total"""


@dataclass(frozen=True)
class GenerationOptions:
    """How answers are generated. Greedy: the same input gives the same tokens."""

    max_new_tokens: int = 32
    eos_token_ids: tuple[int, ...] = ()
    rows: int = 0
    """how many rows are run at once, while the others wait until some have ended; 0: all"""
