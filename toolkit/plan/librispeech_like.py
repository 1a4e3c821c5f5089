"""Made-up utterances that are as long as LibriSpeech's: what of a training is padding, before data is there.

The mean is that of 960.9 hours in 281,241 utterances (`toolkit.plan.corpus`). The shape is an assumption of ours: 64 %
about 14.8 s, 35 % anything shorter, 1 % anything up to 35 s; so are 2.7 words a second, more or less, and answers of 5
to 60 tokens. The words are those of the tasks' wordings.
"""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq
from dataclasses import replace
from itertools import accumulate

from toolkit.config import Config
from toolkit.data.seeding import seeded
from toolkit.data.tokenization import SLOTS
from toolkit.errors import ConfigError
from toolkit.interfaces import Loss
from toolkit.plan.corpus import trained_tasks
from toolkit.plan.manifest import Manifest, asked, tokenizer_of
from toolkit.stages.train import with_copies
from toolkit.types import Example, Word

WORDS = 2.7
"""said in a second"""
TOKENS = 1.3
"""of a word"""
ANSWERS = (5, 60)
"""tokens"""


def librispeech_like(config: Config, loss: Loss, count: int) -> Manifest:
    """Make up so many utterances, and what a training by `loss` asks about them, or their transcripts alone.

    Raises:
        ConfigError: `count` is not a number of utterances.
        ToolkitError: the tasks cannot be read.
    """
    if count < 1:
        raise ConfigError(f"--like-librispeech is a number of utterances, 1 or more, not {count}")
    tokenizer, notes = tokenizer_of(config)
    rng = seeded("like LibriSpeech", count)
    wordings = {wording for task in trained_tasks(config) for wording in task.training}
    known = sorted({word for wording in wordings for word in SLOTS.sub("", wording).split()})
    longest = config.prepare.max_duration
    said = (_utterance(f"utterance-{i}", min(d, longest), known, rng) for i, d in enumerate(durations(count, rng)))
    examples = {example.id: example for example in said}
    notes = *notes, f"{count:,} utterances are made up, as long as LibriSpeech's are"
    if "student" not in loss.needs:
        return Manifest(with_copies(config, list(examples.values())), tokenizer, 0, notes)
    answers = [_sentence(known, round(rng.uniform(*ANSWERS) / TOKENS), rng) for _ in range(10_000)]
    made = [replace(e, response=e.response or rng.choice(answers)) for e in asked(config, examples)]
    return Manifest(made, tokenizer, 0, notes)


def durations(count: int, rng: random.Random) -> list[float]:
    """Draw how long utterances are: seconds, 12.3 in the mean."""
    drawn = {
        "usual": lambda: rng.gauss(14.8, 1.2),
        "short": lambda: rng.uniform(1.4, 14.0),
        "long": lambda: rng.uniform(16.5, 35.0),
    }
    return [min(max(drawn[kind](), 1.4), 35.0) for kind in rng.choices(list(drawn), [64, 35, 1], k=count)]


def _utterance(name: str, duration: float, known: Seq[str], rng: random.Random) -> Example:
    """Say words for so long, each as long as its letters take."""
    text = _sentence(known, round(WORDS * duration * rng.uniform(0.8, 1.2)), rng)
    words = text.split()
    ends = list(accumulate(map(len, words)))
    times = [duration * end / ends[-1] for end in ends]
    said = tuple(Word(word, start, end) for word, start, end in zip(words, [0.0, *times], times, strict=False))
    return Example(name, duration, text, said)


def _sentence(known: Seq[str], count: int, rng: random.Random) -> str:
    return " ".join(rng.choices(known, k=max(count, 1)))
