"""Concatenated utterances: the transcript of another utterance stands, as text, beside the speech of this one.

Speech and text then share a row without any word times: whole utterances are the pieces. The neighbour is put into
the prompt, next to `{speech}`, so that all that follows holds by itself: the text LLM is asked about both transcripts
and its answer is about both, the teacher reads both, and an interleaver plans this utterance as it plans any.
No marker stands at this switch, and the neighbour's text is never supervised. Ours; no paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace

from toolkit.data.seeding import seeded
from toolkit.data.tasks import Request
from toolkit.data.tokenization import SLOT
from toolkit.errors import ConfigError, DataError


def with_neighbours(requests: Seq[Request], transcripts: Mapping[str, str], share: float, seed: int) -> list[Request]:
    """Give some requests a neighbour: before the utterance in one half of them, after it in the other.

    Args:
        requests: for training.
        transcripts: utterance id -> transcript; whom neighbours are drawn from.
        share: of the requests that get one.
        seed: with the request, decides which, whom and on which side.

    Raises:
        ConfigError: `share` is no share.
        DataError: there are no two utterances.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"imitate.concatenated is a share of the training requests, 0 to 1, not {share}")
    if not share:
        return list(requests)
    names = sorted(name for name, text in transcripts.items() if text and "{speech" not in text)
    if len(names) < 2:
        raise DataError(f"imitate.concatenated={share} needs two utterances to join, and there are {len(names)}")
    return [_joined(request, names, transcripts, share, seed) for request in requests]


def _joined(request: Request, names: Seq[str], transcripts: Mapping[str, str], share: float, seed: int) -> Request:
    rng = seeded(seed, "neighbour", request.cut, request.task)
    if rng.random() >= share:
        return request
    neighbour = transcripts[next(name for name in rng.sample(names, 2) if name != request.cut)]
    if rng.random() < 0.5:
        return replace(request, prompt=request.prompt.replace(SLOT, f"{neighbour} {SLOT}"), before=neighbour)
    return replace(request, prompt=request.prompt.replace(SLOT, f"{SLOT} {neighbour}"), after=neighbour)
