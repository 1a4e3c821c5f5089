"""The five kinds of parts as abstract classes, each with its registry: all that a plugin imports.

Letters in shapes are those of `toolkit.types`. Each class states its law; `toolkit.testing` holds the tests
of the laws and runs them over everything registered, plugins included.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

from torch import Tensor, nn

from toolkit.registry import Registry
from toolkit.types import Example, GenerationOptions, LossInputs, LossOutput, Outputs, Padded, Plan

__all__ = [
    "ADAPTERS",
    "DECODERS",
    "ENCODERS",
    "INTERLEAVERS",
    "LOSSES",
    "REGISTRIES",
    "Adapter",
    "AdoptingAdapter",
    "CountingAdapter",
    "Decoder",
    "Encoder",
    "Interleaver",
    "Loss",
    "Padded",
    "TimedAdapter",
    "TokenAdapter",
]


class Encoder(nn.Module, ABC):
    """Waveform -> frames.

    Law: a row depends neither on its padding nor on its neighbours; `output_lengths` is exact.
    """

    output_dim: int
    """width of a frame"""
    sampling_rate: int
    """Hz that `forward` expects"""
    frame_shift: float
    """seconds from one frame to the next"""
    max_duration: float = float("inf")
    """seconds of audio that the encoder can take; longer audio is an error, never cut"""

    @abstractmethod
    def forward(self, audio: Padded) -> Padded:
        """Encode (B, samples) in [-1, 1] to (B, T, output_dim)."""

    @abstractmethod
    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return the frames that come of `lengths` samples: (B,) -> (B,), each at least 1."""


class Adapter(nn.Module, ABC):
    """Frames -> embeddings of the decoder, one row for a span of speech.

    Built with `(input_dim, output_dim)` and its own keyword-only options.
    Law: every output length >= 1; padding and neighbours change nothing; `output_lengths` is exact unless
    `exact_lengths` is False (lengths that depend on the content), when it is the most there can be.
    """

    exact_lengths: ClassVar[bool] = True
    neutral: ClassVar[tuple[str, ...]] = ()
    """beginnings of the names of parameters that, new, change no output: a checkpoint to go on from may lack them"""

    @abstractmethod
    def forward(self, frames: Padded) -> Padded:
        """Adapt (S, T, input_dim) to (S, U, output_dim)."""

    @abstractmethod
    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return the embeddings that come of `lengths` frames: (S,) -> (S,). The only length formula."""


class TimedAdapter(Adapter):
    """An adapter that can say when each of its outputs happens.

    It may be run once over a whole utterance and its *embeddings* cut, which keeps their context.
    Law: times do not decrease within a row and lie within its frames.
    """

    @abstractmethod
    def timed(self, frames: Padded) -> tuple[Padded, Tensor]:
        """Adapt like `forward`, and also return (S, U) the centre of each output, in input frames."""

    def forward(self, frames: Padded) -> Padded:
        """Adapt (S, T, input_dim) to (S, U, output_dim)."""
        return self.timed(frames)[0]


class CountingAdapter(TimedAdapter):
    """An adapter that learns how many outputs a span has; a length loss can pull that to the transcript's."""

    @abstractmethod
    def quantities(self, frames: Padded) -> Tensor:
        """Return how many outputs each row has before rounding, with a gradient: (S, T, input_dim) -> (S,)."""


class TokenAdapter(TimedAdapter):
    """An adapter whose output is projected on (a part of) the decoder's own vocabulary plus a blank.

    It can be trained by CTC without running the decoder. Label 0 is the blank, label k is `token_ids[k-1]`.
    """

    token_ids: Tensor
    """(K,) the tokens of the decoder that this adapter can emit"""
    token_stride: int
    """input frames from one step of `token_logits` to the next"""

    @abstractmethod
    def attach(self, token_ids: Tensor, embeddings: Tensor) -> None:
        """Give the adapter its tokens (K,) and their frozen embeddings (K, output_dim)."""

    @abstractmethod
    def token_logits(self, frames: Padded) -> Padded:
        """Score the labels: (S, T, input_dim) -> (S, T', K + 1)."""


class AdoptingAdapter(Adapter):
    """An adapter whose layers another model has trained already; training may begin with that model's weights."""

    weights: str
    """the model to take them from: a folder, a hub id, `asset:NAME`, `encoder` for the encoder's own; empty is none"""

    @abstractmethod
    def adopt(self, state: Mapping[str, Tensor]) -> None:
        """Take what fits this adapter from the state of the whole model, by the names that transformers gives it.

        Raises:
            CheckpointError: sizes disagree; both are named, and nothing is changed.
        """


class Decoder(nn.Module, ABC):
    """The causal language model. It knows embeddings and tokens, and of speech no more than where it stands.

    It pads once, inside: right for training, left for generation, always with explicit positions.
    Law: a batch gives what each row gives alone; training and generation see the same positions; inside
    `as_text_llm` nothing that training changes has a say.
    """

    embedding_dim: int
    vocabulary_size: int
    rows_run: Tensor | int = 0
    """positions of rows that it has run so far, where it counts them"""
    padded_run: int = 0
    """the same with the padding of the rows"""
    opens_once: bool = False
    """whether `outputs` runs what rows open with once for all that open so, in training too"""
    packing: bool = False
    """whether `outputs` runs several short rows in the place of a long one"""

    def pack(self) -> bool:
        """Run several short rows in the place of a long one from now on; returns whether it can. By default it cannot.

        Law: each row gives what it gives alone.
        """
        return False

    def compile_pieces(self) -> bool:
        """Run compiled what can be of `outputs`, where a gradient is asked for, from now on; returns whether any can.

        Law: it gives what it gave, to rounding; what needs no gradient gives exactly that. By default none can.
        """
        return False

    @property
    def compile_seconds(self) -> float:
        """Return how many seconds compiling has taken so far."""
        return 0.0

    @abstractmethod
    def embed(self, token_ids: Tensor) -> Tensor:
        """Look up input embeddings: (n,) -> (n, D)."""

    def trained(self) -> frozenset[str]:
        """Return the names of the parameters that training changes; the others are frozen. None by default."""
        return frozenset()

    def frozen_state(self) -> dict[str, Tensor]:
        """Return the tensors of the text LLM, which no training changes, by the names they have in it alone."""
        trained = self.trained()
        return {name: tensor for name, tensor in self.state_dict().items() if name not in trained}

    def as_text_llm(self) -> AbstractContextManager[None]:
        """Be the frozen text LLM inside a `with`: the teacher, and who is asked in text. By default it always is."""
        return nullcontext()

    @abstractmethod
    def outputs(
        self,
        sequences: Seq[Tensor],
        positions: Seq[Tensor],
        prefixes: Seq[tuple[int, ...]] = (),
        audio: Seq[Tensor] = (),
    ) -> Outputs:
        """Run the model and score only where asked.

        Args:
            sequences: B rows of embeddings (n_i, D).
            positions: B index tensors; row i is scored at its `positions[i]`. M in total.
            prefixes: the token ids that each row opens with, such as its prompt up to the speech; no embedding in
                them needs a gradient, and for rows that open alike they may be run once. Empty: not known.
            audio: B masks (n_i,), True at the embeddings that are speech. Empty: there is none.
        """

    @abstractmethod
    def generate(
        self,
        sequences: Seq[Tensor],
        options: GenerationOptions,
        prefixes: Seq[tuple[int, ...]] = (),
        audio: Seq[Tensor] = (),
    ) -> list[list[int]]:
        """Continue each row of embeddings (n_i, D) greedily; return new tokens, end token excluded.

        A row that ends by itself is shorter than `max_new_tokens`; one that was cut has exactly as many.
        Where `options.rows` is given, no more rows than that are run at once, for memory; what each says is the same.
        """


class Interleaver(ABC):
    """Decides which pieces of an utterance are speech and which are text.

    Pure Python on the CPU, deterministic for a given `rng`.
    Law: speech segments are ordered, non-empty and inside the cut; text and speech together cover the
    transcript exactly once; ratio 0 is the text view, ratio 1 the speech view.
    """

    @abstractmethod
    def plan(self, example: Example, rng: random.Random) -> Plan:
        """Plan one utterance."""


class Loss(nn.Module, ABC):
    """Compares what the model said with what it should have said.

    Law: finite; the total is a sum, so splitting a batch changes nothing, and of nothing it is 0 of 0 (a whole
    step of nothing is the step's error).
    """

    needs: ClassVar[frozenset[str]]
    """of `student`, `teacher`, `spans`, `quantities`, `embeddings`: the step computes these and nothing else"""
    stored_teacher: ClassVar[bool] = False
    """whether a teacher kept as `TopK` will do for this loss, in `LossInputs.stored_teacher`; then none is run"""

    @abstractmethod
    def forward(self, inputs: LossInputs) -> LossOutput:
        """Return the summed loss and how many items it is a sum of."""


ENCODERS = Registry("encoder", Encoder)
ADAPTERS = Registry("adapter", Adapter)
DECODERS = Registry("decoder", Decoder)
INTERLEAVERS = Registry("interleaver", Interleaver)
LOSSES = Registry("loss", Loss)
REGISTRIES: dict[str, Registry] = {  # type: ignore[type-arg]
    r.kind: r for r in (ENCODERS, ADAPTERS, DECODERS, INTERLEAVERS, LOSSES)
}
