"""Speech among text: pure functions that cut spans and join them with token embeddings.

Interleavers decide in seconds; here, and only here, seconds become frames. Nothing is edited in place.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.errors import DataError
from toolkit.types import Padded, Sequence, SpeechSegment, TokenPiece


@dataclass(frozen=True)
class Spliced:
    """One row for the decoder."""

    embeddings: Tensor
    """(n, D)"""
    positions: Tensor
    """(m,) where the decoder is scored: the position before each supervised token"""
    targets: Tensor
    """(m,) the supervised tokens"""
    prefix: tuple[int, ...]
    """the token ids it opens with, if that is unsupervised text: the prompt up to the utterance"""
    audio: Tensor
    """(n,) bool, where the embeddings are speech"""


_ROUNDING = 1e-6
"""frames by which seconds may be off"""


def frame_range(segment: SpeechSegment, frame_shift: float, length: int) -> tuple[int, int]:
    """Turn seconds into a half-open range of frames: rounded, inside `length`, at least one frame.

    What ends within the last frame ends with it: a recording is seldom a whole number of frames long.
    """
    start = min(max(round(segment.start / frame_shift), 0), length - 1)
    end = segment.end / frame_shift
    return start, length if end > length - 1 + _ROUNDING else min(max(round(end), start + 1), length)


def spans_of(sequence: Sequence) -> list[SpeechSegment]:
    """Return the speech of a sequence, in order."""
    return [piece for piece in sequence if isinstance(piece, SpeechSegment)]


def placed_spans(
    sequences: Seq[Sequence], count: int, recordings: Seq[tuple[int, ...]] = ()
) -> list[tuple[int, SpeechSegment]]:
    """Return the speech of all rows in order, each span with the recording that it is cut from.

    Args:
        sequences: B rows.
        count: R, the recordings of the batch.
        recordings: of each row, its recordings among the R. Empty: each row has one, its own.

    Raises:
        DataError: the recordings are not those of the rows, or a span is of one that its row has not.
    """
    owned = recordings or [(row,) for row in range(count)]
    if len(owned) != len(sequences) or {number for own in owned for number in own} != set(range(count)):
        raise DataError(
            f"{len(sequences)} rows do not share out {count} recordings as {tuple(owned)}: Batch.recordings names "
            "the recordings of each row"
        )
    placed = []
    for own, sequence in zip(owned, sequences, strict=True):
        for span in spans_of(sequence):
            if span.recording >= len(own):
                raise DataError(f"a span is of recording {span.recording + 1} of a row that has {len(own)}")
            placed.append((own[span.recording], span))
    return placed


def cut_frames(
    frames: Padded, sequences: Seq[Sequence], frame_shift: float, recordings: Seq[tuple[int, ...]] = ()
) -> Padded:
    """Cut encoder frames at the spans of each row: (R, T, D) -> (S, T', D), all spans of all rows in order."""
    rows = frames.unpad()
    pieces = []
    for number, span in placed_spans(sequences, len(rows), recordings):
        start, end = frame_range(span, frame_shift, len(rows[number]))
        pieces.append(rows[number][start:end])
    return Padded.of(pieces)


def cut_embeddings(
    embeddings: Padded,
    times: Tensor,
    frames: Tensor,
    sequences: Seq[Sequence],
    frame_shift: float,
    recordings: Seq[tuple[int, ...]] = (),
) -> list[Tensor]:
    """Cut embeddings that know their time, so that each keeps the context of the whole utterance.

    Every embedding between two spans' borders goes to the span that holds its centre; a span that holds
    none gets the nearest one, since a heard word cannot be nothing.

    Args:
        embeddings: (R, U, D).
        times: (R, U) centres, in frames.
        frames: (R,) frames of each recording.
        sequences: B rows.
        frame_shift: seconds a frame.
        recordings: of each row, its recordings among the R. Empty: each row has one, its own.

    Returns:
        The S spans of all rows in order, each (u, D) with u >= 1.
    """
    rows, lengths = embeddings.unpad(), frames.tolist()
    pieces = []
    for number, span in placed_spans(sequences, len(rows), recordings):
        row = rows[number]
        centres = times[number][: len(row)]
        start, end = frame_range(span, frame_shift, lengths[number])
        # Centres run from 0 to length - 1, so a span up to the last frame holds the last centre too.
        inside = (centres >= start - 0.5) & (centres < end - 0.5)
        if not bool(inside.any()):
            nearest = (centres - (start + end - 1) / 2).abs().argmin()
            inside = torch.arange(len(row), device=row.device) == nearest
        pieces.append(row[inside])
    return pieces


def splice(
    sequences: Seq[Sequence], spans: Seq[Tensor], embed: Callable[[Tensor], Tensor], device: torch.device
) -> list[Spliced]:
    """Join token embeddings and speech spans into rows for the decoder.

    Args:
        sequences: B rows of pieces.
        spans: the S speech spans of all rows in order, each (u, D).
        embed: token ids (n,) -> (n, D).
        device: where the token ids are made.

    Raises:
        DataError: a supervised token is the first of its row, so that nothing can predict it.
    """
    tokens = [t for row in sequences for piece in row if isinstance(piece, TokenPiece) for t in piece.token_ids]
    embedded = embed(torch.tensor(tokens, dtype=torch.long, device=device))
    rest = iter(spans)
    used = 0
    rows = []
    for sequence in sequences:
        pieces: list[Tensor] = []
        audio: list[bool] = []
        positions: list[int] = []
        targets: list[int] = []
        length = 0
        for piece in sequence:
            if isinstance(piece, SpeechSegment):
                pieces.append(next(rest).to(embedded.dtype))
            else:
                pieces.append(embedded[used : used + len(piece.token_ids)])
                used += len(piece.token_ids)
                if piece.supervised:
                    positions.extend(range(length - 1, length - 1 + len(piece.token_ids)))
                    targets.extend(piece.token_ids)
            audio += [isinstance(piece, SpeechSegment)] * len(pieces[-1])
            length += len(pieces[-1])
        if positions and positions[0] < 0:
            raise DataError("a supervised token opens its row: nothing comes before that could predict it")
        rows.append(
            Spliced(
                torch.cat(pieces),
                torch.tensor(positions, dtype=torch.long, device=device),
                torch.tensor(targets, dtype=torch.long, device=device),
                _prefix(sequence),
                torch.tensor(audio, dtype=torch.bool, device=device),
            )
        )
    return rows


def answer_starts(sequences: Seq[Sequence]) -> Tensor:
    """Say which of the M supervised tokens of all rows is the first of its run, such as of an answer: (M,) bool."""
    runs = [p for row in sequences for p in row if isinstance(p, TokenPiece) and p.supervised]
    return torch.tensor([i == 0 for run in runs for i in range(len(run.token_ids))], dtype=torch.bool)


def _prefix(sequence: Sequence) -> tuple[int, ...]:
    """Return the tokens of the first piece, if it is text that nothing is learnt from and more follows."""
    first = sequence[0]
    return first.token_ids if isinstance(first, TokenPiece) and not first.supervised and len(sequence) > 1 else ()


def align_labels(labels: Seq[Tensor], times: Seq[Tensor], logits: Padded, step: float) -> Tensor:
    """Say which label each step should have by the word times: blank between words, -1 where nobody knows.

    Args:
        labels: B rows (n,) of labels.
        times: B rows (n, 2) of seconds, NaN where unknown.
        logits: (B, T, K + 1), for the number of steps of each row.
        step: seconds from one step to the next.

    Returns:
        (B, T) labels.
    """
    aligned = torch.full(logits.values.shape[:2], -1, device=logits.values.device)
    for row, (own, when, length) in enumerate(zip(labels, times, logits.lengths.tolist(), strict=True)):
        if bool(torch.isnan(when).any()):
            continue
        aligned[row, :length] = 0
        for label, (start, end) in zip(own.tolist(), when.tolist(), strict=True):
            first, last = frame_range(SpeechSegment(start, end), step, length)
            aligned[row, first:last] = label
    return aligned
