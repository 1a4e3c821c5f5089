"""What an example costs the model: the positions of its row, told before any audio is read.

A position is an embedding of the speech, or a token of the prompt or of the answer. What a row opens with, its prompt
up to the speech, is run once for all rows that open so, where the decoder can: then it is none of the row's, for it
pads nothing. Speech is counted by the length formulas of encoder and adapter; where those say only how many there can
be at most, as with an adapter that emits tokens, as many are reckoned as the transcript has tokens. This is
of plain speech; what is drawn of it in an epoch is reckoned by `toolkit.data.drawn_costs`.
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


Costs = Callable[[int, int], Seq[int]]
"""(epoch, its first step) -> positions of each example's row there: batch mates are chosen by them"""


def embeddings_of(durations: Seq[float], encoder: Encoder, adapter: Adapter) -> list[int]:
    """Return how many embeddings come of recordings of so many seconds, at most; no weights are needed."""
    samples = torch.tensor([max(1, round(seconds * encoder.sampling_rate)) for seconds in durations])
    lengths: Tensor = adapter.output_lengths(encoder.output_lengths(samples))
    return lengths.tolist()


def heard_of(
    examples: Seq[Example], encoder: Encoder, adapter: Adapter, tokenizer: ChatTokenizer | None, *, answers: bool
) -> list[list[int]]:
    """Return the positions of each utterance of each example as plain speech.

    Args:
        examples: with their transcripts.
        encoder: for its length formula; it needs no weights.
        adapter: likewise.
        tokenizer: of the decoder; None reckons four characters to a token.
        answers: whether the decoder is run; if not, the embeddings of the speech are all, at most.
    """
    said = [utterance for example in examples for utterance in example.utterances]
    heard = embeddings_of([utterance.duration for utterance in said], encoder, adapter) if said else []
    if answers and not type(adapter).exact_lengths:
        spoken = counts((utterance.transcript for utterance in said), tokenizer)
        heard = [max(1, min(pair)) for pair in zip(heard, spoken, strict=True)]
    each = iter(heard)
    return [[next(each) for _ in example.utterances] for example in examples]


def row_costs(
    examples: Seq[Example],
    heard: Seq[Seq[int]],
    tokenizer: ChatTokenizer | None,
    *,
    opened: bool = False,
    unknown: int = 0,
) -> list[int]:
    """Return the positions of each example's row, where the decoder is run.

    Args:
        examples: with their answers.
        heard: of each, the positions of its utterances.
        tokenizer: of the decoder; None reckons four characters to a token.
        opened: whether what a row opens with is run once for all that open so.
        unknown: tokens of an answer that is not there yet.
    """
    around, before = (TEMPLATE, BEFORE) if tokenizer is None else tokenizer.around()
    prompts = counts((_text(_turns(example)) for example in examples), tokenizer)
    responses = counts((example.response for example in examples), tokenizer)
    costs = [
        sum(speech) + around * (1 + len(example.history)) + asked + (answered or unknown) + example.response_complete
        for example, speech, asked, answered in zip(examples, heard, prompts, responses, strict=True)
    ]
    if not opened:
        return costs
    openings = [_opening(example) for example in examples]
    texts = counts((_text(turns) for turns in openings), tokenizer)
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


def counts(texts: Iterable[str], tokenizer: ChatTokenizer | None) -> list[int]:
    """Count the tokens of texts, of each different one once; without a tokenizer four characters are one."""
    asked = list(texts)
    different = list(dict.fromkeys(asked))
    count: Callable[[Seq[str]], list[int]] = _reckoned if tokenizer is None else tokenizer.counts
    known = dict(zip(different, count(different), strict=True)) if different else {}
    return [known[text] for text in asked]


def _reckoned(texts: Seq[str]) -> list[int]:
    return [-(-len(text) // CHARACTERS) for text in texts]
