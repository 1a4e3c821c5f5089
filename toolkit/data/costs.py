"""What an example costs the model: the positions of its row, told before any audio is read.

A position is an embedding of the speech, or a token of the prompt or of the answer. Speech is counted by the length
formulas of encoder and adapter; where those say only how many there can be at most, as with an adapter that emits
tokens, as many are reckoned as the transcript has tokens. What an interleaver makes of it is drawn anew in each step:
a row is reckoned as plain speech.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from toolkit.data.tokenization import ChatTokenizer, slot
from toolkit.interfaces import Adapter, Encoder
from toolkit.types import Example

CHARACTERS = 4
"""of a token; an assumption of ours, for who has no tokenizer"""
TEMPLATE = 30
"""tokens that a chat template puts around a turn; an assumption of ours, for who has no tokenizer"""


def rough_costs(examples: Seq[Example]) -> list[float]:
    """Reckon what each example costs without a model: its speech, prompt and answer; 4 characters are a token."""
    return [12.5 * _seconds(example) + _characters(example) / CHARACTERS for example in examples]


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
    unknown: int = 0,
) -> list[int]:
    """Return the positions of each example's row.

    Args:
        examples: with their answers.
        encoder: for its length formula; it needs no weights.
        adapter: likewise.
        tokenizer: of the decoder; None reckons four characters to a token.
        answers: whether the decoder is run; if not, the embeddings of the speech are all, at most.
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
    around = TEMPLATE if tokenizer is None else tokenizer.around()
    prompts = _counts(map(_asked, examples), tokenizer)
    responses = _counts((example.response for example in examples), tokenizer)
    return [
        heard + around * (1 + len(example.history)) + asked + (answered or unknown) + example.response_complete
        for example, heard, asked, answered in zip(examples, speech, prompts, responses, strict=True)
    ]


def _asked(example: Example) -> str:
    """Return the text of all turns but the last answer, without the slots."""
    turns = [text for turn in example.history for text in (turn.prompt, turn.response)]
    text = " ".join([*turns, example.prompt])
    for recording in range(len(example.utterances)):
        text = text.replace(slot(recording), "")
    return text


def _counts(texts: Iterable[str], tokenizer: ChatTokenizer | None) -> list[int]:
    """Count tokens, of each different text once."""
    asked = list(texts)
    different = list(dict.fromkeys(asked))
    count: Callable[[Seq[str]], list[int]] = _reckoned if tokenizer is None else tokenizer.counts
    known = dict(zip(different, count(different), strict=True)) if different else {}
    return [known[text] for text in asked]


def _reckoned(texts: Seq[str]) -> list[int]:
    return [-(-len(text) // CHARACTERS) for text in texts]


def _seconds(example: Example) -> float:
    return sum(said.duration for said in example.utterances)


def _characters(example: Example) -> int:
    before = sum(len(turn.prompt) + len(turn.response) for turn in example.history)
    return before + len(example.prompt) + len(example.response)
