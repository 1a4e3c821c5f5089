"""What a row costs in an epoch: of some rows words are read in the place of being heard, and that is drawn beforehand.

Rows whose speech and text are mixed are mostly shorter than plain speech, and which these are is another matter in
each epoch. Reckoned as plain speech, they would be padded to what they are not.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache

from toolkit.data.costs import counts, embeddings_of
from toolkit.data.tokenization import ChatTokenizer
from toolkit.data.views import Views
from toolkit.interfaces import Adapter, Encoder
from toolkit.types import Example, Plan, SpeechSegment, TextSegment


@dataclass(frozen=True, slots=True)
class Drawn:
    """An utterance that is not plain speech in an epoch."""

    row: int
    duration: float
    """seconds"""
    speech: int
    """positions that it would have as plain speech"""
    plan: Plan

    @property
    def pieces(self) -> list[float]:
        """The seconds of each piece of speech."""
        return [segment.end - segment.start for segment in self.plan if isinstance(segment, SpeechSegment)]


class DrawnCosts:
    """The positions of each example's row as an epoch has it; of the latest epoch they are kept.

    Args:
        examples: with their answers.
        plain: the positions of their rows as plain speech.
        heard: and of each of their utterances.
        encoder: for its length formula; it needs no weights.
        adapter: likewise.
        tokenizer: of the decoder; None reckons four characters to a token.
        views: what is drawn.
        cut: where interleaving cuts: what is adapted as a whole has as many embeddings, wherever it is cut.
    """

    def __init__(
        self,
        examples: Seq[Example],
        plain: Seq[int],
        heard: Seq[Seq[int]],
        encoder: Encoder,
        adapter: Adapter,
        tokenizer: ChatTokenizer | None,
        views: Views,
        cut: str,
    ) -> None:
        self.examples = examples
        self.plain = plain
        self.encoder = encoder
        self.adapter = adapter
        self.tokenizer = tokenizer
        self.views = views
        self.by_pieces = type(adapter).exact_lengths and cut != "embeddings"
        self.of_tokens = not type(adapter).exact_lengths
        self.heard = heard
        self._tokens: dict[str, int] = {}
        self._made = lru_cache(maxsize=1)(self._make)

    def __call__(self, epoch: int, step: int) -> Seq[int]:
        """Return the positions of every row in an epoch that begins with `step`.

        Under a curriculum that goes on, what a row is may change within the epoch: then the larger of what it is as the
        epoch begins and what it is when the curriculum has ended, so that no budget is broken.
        """
        return self._made(epoch, step)

    def _make(self, epoch: int, step: int) -> Seq[int]:
        now, end = self._drawn(epoch, step), self.views.shares.steps
        return now if step >= end else list(map(max, now, self._drawn(epoch, end)))

    def _drawn(self, epoch: int, step: int) -> list[int]:
        """Return the positions of every row as it is drawn in a step."""
        drawn = [
            Drawn(row, utterance.duration, speech, plan)
            for row, (example, heard) in enumerate(zip(self.examples, self.heard, strict=True))
            for utterance, speech, plan in zip(example.utterances, heard, self.views(example, epoch, step), strict=True)
            if len(plan) != 1 or isinstance(plan[0], TextSegment)
        ]
        costs, read = list(self.plain), self._read(drawn)
        for one, *parts in zip(drawn, read, self._heard(drawn, read), self._markers(drawn), strict=True):
            costs[one.row] = max(1, costs[one.row] + sum(parts) - one.speech)
        return costs

    def _heard(self, drawn: Seq[Drawn], read: Seq[int]) -> list[int]:
        """Return how many embeddings come of the pieces of speech of each utterance: at least one of each piece."""
        if self.by_pieces:
            seconds = [piece for one in drawn for piece in one.pieces]
            each = iter(embeddings_of(seconds, self.encoder, self.adapter) if seconds else ())
            return [sum(next(each) for _ in one.pieces) for one in drawn]
        if self.of_tokens:  # what is not read
            left = [one.speech - text for one, text in zip(drawn, read, strict=True)]
        else:
            left = [round(one.speech * sum(one.pieces) / one.duration) for one in drawn]
        return [max(len(one.pieces), most) if one.pieces else 0 for one, most in zip(drawn, left, strict=True)]

    def _read(self, drawn: Seq[Drawn]) -> list[int]:
        """Return how many tokens of each utterance are read: those of its words, for no token is of two."""
        texts = [" ".join(s.text for s in one.plan if isinstance(s, TextSegment)) for one in drawn]
        if self.tokenizer is None:
            return counts(texts, None)
        words = [text.split() for text in texts]
        new = {word: f" {word}" for own in words for word in own if word not in self._tokens}
        self._tokens |= zip(new, counts(new.values(), self.tokenizer), strict=True)
        return [sum(self._tokens[word] for word in own) for own in words]

    def _markers(self, drawn: Seq[Drawn]) -> list[int]:
        """Return how many tokens mark the pieces of each utterance that has several."""
        told = self.tokenizer
        if told is None or not (told.speech_marker or told.text_marker):
            return [0] * len(drawn)
        speech, text = (len(told.encode(f" {m}")) if m else 0 for m in (told.speech_marker, told.text_marker))
        numbers = ((len(one.pieces), len(one.plan) - len(one.pieces)) for one in drawn)
        return [heard * speech + read * text if heard + read > 1 else 0 for heard, read in numbers]
