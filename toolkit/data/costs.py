"""What an example costs the model: the positions of its row, told before any audio is read.

A position is an embedding of the speech, or a token of the prompt or of the answer. What a row opens with, its prompt
up to the speech, is run once for all rows that open so, where the decoder can: then it is none of the row's, for it
pads nothing. Speech is counted by the length formulas of encoder and adapter; where those say only how many there can
be at most, as with an adapter that emits tokens, as many are reckoned as the transcript has tokens. What an
interleaver makes of it is drawn anew in each step: a row is reckoned as plain speech.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from toolkit.data.tokenization import SLOTS, ChatTokenizer
from toolkit.interfaces import Adapter, Encoder
from toolkit.types import Example

CHARACTERS = 4
"""of a token; an assumption of ours, for who has no tokenizer"""
TEMPLATE, BEFORE = 30, 25
"""tokens that a chat template puts around a turn, and in front of it; assumptions of ours, for who has no tokenizer"""


def embeddings_of(durations: Seq[float], encoder: Encoder, adapter: Adapter) -> list[int]:
    """Return how many embeddings come of recordings of so many seconds, at most; no weights are needed."""
    samples = torch.tensor([max(1, round(seconds * encoder.sampling_rate)) for seconds in durations])
    lengths: Tensor = adapter.output_lengths(encoder.output_lengths(samples))
    return lengths.tolist()


def row_costs(
    examples: Seq[Example],
    encoder: Encoder,
    adapter: Adapter,
    tokenizer: ChatTokenizer | None,
    *,
    answers: bool,
    opened: bool = False,
    unknown: int = 0,
) -> list[int]:
    """Return the positions of each example's row.

    Args:
        examples: with their answers.
        encoder: for its length formula; it needs no weights.
        adapter: likewise.
        tokenizer: of the decoder; None reckons four characters to a token.
        answers: whether the decoder is run; if not, the embeddings of the speech are all, at most.
        opened: whether what a row opens with is run once for all that open so.
        unknown: tokens of an answer that is not there yet.
    """
    said = [utterance for example in examples for utterance in example.utterances]
    most = embeddings_of([utterance.duration for utterance in said], encoder, adapter) if said else []
    if answers and not type(adapter).exact_lengths:
        spoken = _counts((utterance.transcript for utterance in said), tokenizer)
        most = [max(1, min(pair)) for pair in zip(most, spoken, strict=True)]
    heard = iter(most)
    speech = [sum(next(heard) for _ in example.utterances) for example in examples]
    if not answers:
        return speech
    around, before = (TEMPLATE, BEFORE) if tokenizer is None else tokenizer.around()
    prompts = _counts((_text(_turns(example)) for example in examples), tokenizer)
    responses = _counts((example.response for example in examples), tokenizer)
    costs = [
        heard + around * (1 + len(example.history)) + asked + (answered or unknown) + example.response_complete
        for example, heard, asked, answered in zip(examples, speech, prompts, responses, strict=True)
    ]
    if not opened:
        return costs
    openings = [_opening(example) for example in examples]
    texts = _counts((_text(turns) for turns in openings), tokenizer)
    return [
        max(1, cost - before - around * ((len(turns) - 1) // 2) - text)
        for cost, turns, text in zip(costs, openings, texts, strict=True)
    ]


def _turns(example: Example) -> list[str]:
    """Return what is said in turn before the answer."""
    return [*(text for turn in example.history for text in (turn.prompt, turn.response)), example.prompt]


def _opening(example: Example) -> list[str]:
    """Return what is said before the first recording."""
    turns = _turns(example)
    first = next((i for i, text in enumerate(turns) if SLOTS.search(text)), len(turns) - 1)
    return [*turns[:first], SLOTS.split(turns[first])[0]]


def _text(turns: Seq[str]) -> str:
    """Return the text of turns, without the slots."""
    return SLOTS.sub("", " ".join(turns))


def _counts(texts: Iterable[str], tokenizer: ChatTokenizer | None) -> list[int]:
    """Count tokens, of each different text once."""
    asked = list(texts)
    different = list(dict.fromkeys(asked))
    count: Callable[[Seq[str]], list[int]] = _reckoned if tokenizer is None else tokenizer.counts
    known = dict(zip(different, count(different), strict=True)) if different else {}
    return [known[text] for text in asked]


def _reckoned(texts: Seq[str]) -> list[int]:
    return [-(-len(text) // CHARACTERS) for text in texts]
