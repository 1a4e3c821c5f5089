"""The laws by name, each with the fault that it is there to catch: what a check looks at and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager

import torch
from torch import Tensor

from toolkit.errors import ConfigError
from toolkit.registry import Registry

TOLERANCE = 1e-5

KEY = "an unknown key is refused"
DETERMINISM = "evaluation is deterministic"
ORDER = "the order of rows changes nothing"
PADDING = "what stands in the padding means nothing"
NEIGHBOURS = "a row does not depend on its neighbours"
LENGTH = "output_lengths is the real length"
SHORTEST = "every output length is at least 1"
STATE = "the state round-trips"

_EVERYWHERE = {
    KEY: "an option that is misspelt and silently keeps its default",
    DETERMINISM: "dropout or noise that evaluation leaves on",
}
_ROWS = {ORDER: "one row's mask or length taken for all rows"}

LAWS: dict[str, dict[str, str]] = {
    "encoder": {
        **_EVERYWHERE,
        "frames have output_dim values": "an adapter that is built for another width",
        SHORTEST: "audio shorter than a frame that becomes nothing",
        LENGTH: "a formula that is not the convolutions' own",
        "lengths agree with frame_shift within a frame": "words cut at the wrong place",
        **_ROWS,
        PADDING: "samples past the end that are filtered or normalised with the rest",
        NEIGHBOURS: "group norm over the padded row, attended padding, a spectrogram that ends in other silence",
        STATE: "weights that a checkpoint does not hold",
    },
    "adapter": {
        **_EVERYWHERE,
        SHORTEST: "a word shorter than a stride that becomes nothing",
        "outputs have the decoder's width": "a projection that is left out",
        "outputs are no longer than the longest row": "padding that is handed on as if it were speech",
        LENGTH: "a formula that rounds the other way, an even kernel, a remainder that is dropped",
        "output_lengths is the most there can be": "more outputs than anybody reckoned with",
        **_ROWS,
        PADDING: "an unzeroed convolution, a pool over what stands there",
        NEIGHBOURS: "attended padding, unmasked keys, a mean over the padded row, a second convolution unzeroed",
        "times do not decrease": "embeddings cut out of the wrong word",
        "times lie within the frames": "a centre past the end, which no span holds",
        "a gradient reaches every parameter": "a part that is detached, or that nothing uses",
        STATE: "a table or a scale that is no parameter and no buffer",
    },
    "decoder": {
        **_EVERYWHERE,
        "embeddings have embedding_dim values": "an adapter that is built for another width",
        "logits are at the positions asked": "a shift by one, or a row scored for another",
        **_ROWS,
        "training: a batch is its rows alone": "padding on the left without positions, unmasked keys",
        "hidden states are too": "states taken before the last norm in one case and after it in the other",
        "masks of no speech change nothing": "a mask that is not there taken for speech everywhere",
        "shared prefixes change nothing": "missing positions or unmasked keys behind what is run once",
        "a gradient reaches the speech through the frozen model": "a run without a gradient, or a copy of the input",
        "shared prefixes lose no gradient": "speech that is run once with the prompt",
        "generation: a batch is its rows": "missing positions, unmasked keys, padding on the right",
        "generation: shared prefixes change nothing": "a cache that goes on at the wrong position",
        "generation: rows that wait for others to end say the same": "a row that never begins, or sees another's keys",
        "training scores highest what generation says": "positions that training counts otherwise than generation",
        "as_text_llm is the text LLM whatever was trained": "a teacher that learns with its student",
        STATE: "weights that a checkpoint does not hold",
    },
    "interleaver": {
        KEY: _EVERYWHERE[KEY],
        "the same rng gives the same plan": "a random number from elsewhere, so that no run can be repeated",
        "speech segments are not empty": "two words at one time, a cut of no length",
        "speech segments are in order and do not overlap": "a word heard twice",
        "speech is inside the cut": "a pause that reaches past the end",
        "text and speech cover the transcript exactly once": "a word lost or doubled where text and speech meet",
        "without word times what is not read stays speech": "words left out where nobody knows when they are said",
        "a ratio of 0 is the text view": "a piece of speech that is always there",
        "a ratio of 1 is the speech view": "an utterance in pieces where nothing is text",
        "the share of words that are heard is the ratio": "spans drawn by their number and not by their words",
        "text is learnt if learn_text says so, and only then": "a prompt's own words among the targets",
    },
    "loss": {
        **_EVERYWHERE,
        "the loss is finite": "a logarithm of nothing",
        "counts add up": "counting rows where items are summed",
        **_ROWS,
        "a batch split in two sums to the same": "averaging means, padded steps that are counted",
        "a gradient comes back": "a comparison with something detached",
        "no supervised position is a sum of nothing": "a mean over nothing, which is NaN",
        "a teacher of which all is stored is the teacher": "a temperature or a rest that is taken another way",
        "a teacher of which a part is stored gives a gradient": "a logarithm of a rest that is not there",
    },
}
"""kind -> law -> the fault that it catches"""

_records: list[dict[str, bool]] = []


@contextmanager
def recorded() -> Iterator[dict[str, bool]]:
    """Collect each law that is looked at in the block, in order, and whether it held every time."""
    laws: dict[str, bool] = {}
    _records.append(laws)
    try:
        yield laws
    finally:
        _records.pop()


def law(holds: bool, name: str, law: str) -> None:
    """Say that a part keeps a law, or end its check.

    Raises:
        AssertionError: it does not; part and law are named.
    """
    for laws in _records:
        laws[law] = holds and laws.get(law, True)
    if not holds:
        raise AssertionError(f"'{name}' breaks the law: {law}")


def same(left: Seq[Tensor], right: Seq[Tensor], name: str, named: str) -> None:
    """Hold a part to a law by which each tensor on the left is that on the right."""
    for a, b in zip(left, right, strict=True):
        law(a.shape == b.shape and bool(torch.allclose(a, b, atol=TOLERANCE, rtol=1e-4)), name, named)


def refuses_unknown_keys(registry: Registry, name: str) -> None:  # type: ignore[type-arg]
    """Hold a part to the law that no option is swallowed."""
    try:
        registry.build({"name": name, "no_such_key": 1})
    except ConfigError as error:
        law("no_such_key" in str(error), name, KEY)
    else:
        law(False, name, KEY)
