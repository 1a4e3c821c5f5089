"""The law of interleavers as a function that checks one registered name."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from toolkit.interfaces import INTERLEAVERS
from toolkit.registry import keyword_parameters
from toolkit.testing.laws import law, refuses_unknown_keys
from toolkit.types import Example, SpeechSegment, TextSegment, Word

RATIO_TOLERANCE = 0.1
"""of the share of words heard in 200 short utterances; a planner may round in each"""


def check_interleaver(name: str, **options: Any) -> None:
    """Check the law of interleavers: order, bounds, coverage exactly once, determinism, and what options promise.

    `ratio` and `learn_text` mean the same in every interleaver that has them.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    refuses_unknown_keys(INTERLEAVERS, name)
    interleaver = INTERLEAVERS.build({"name": name, **options})
    for seed in range(50):
        example = an_example(random.Random(seed))
        plan = interleaver.plan(example, random.Random(seed))
        law(plan == interleaver.plan(example, random.Random(seed)), name, "the same rng gives the same plan")
        speech = [s for s in plan if isinstance(s, SpeechSegment)]
        law(all(s.end > s.start for s in speech), name, "speech segments are not empty")
        bounds = [t for s in speech for t in (s.start, s.end)]
        law(bounds == sorted(bounds), name, "speech segments are in order and do not overlap")
        law(
            not bounds or (bounds[0] >= 0 and bounds[-1] <= example.duration),
            name,
            "speech is inside the cut",
        )
        said: list[str] = []
        for segment in plan:
            if isinstance(segment, TextSegment):
                said.extend(segment.text.split())
            else:
                said.extend(w.text for w in example.words if segment.start <= (w.start + w.end) / 2 < segment.end)
        law(said == example.transcript.split(), name, "text and speech cover the transcript exactly once")
    for seed in range(50):
        example = an_example(random.Random(seed))
        blind = interleaver.plan(replace(example, words=()), random.Random(seed))
        read = [word for s in blind if isinstance(s, TextSegment) for word in s.text.split()]
        whole, rest = example.transcript.split(), iter(example.transcript.split())
        heard = any(isinstance(s, SpeechSegment) for s in blind)
        law(
            blind == (SpeechSegment(0.0, example.duration),)
            or (bool(read) and all(word in rest for word in read) and heard == (read != whole)),
            name,
            "without word times what is not read stays speech",
        )
    known = keyword_parameters(INTERLEAVERS[name])
    if "ratio" in known:
        _check_ratio(name, options)
    for learn in (False, True) if "learn_text" in known else ():
        learner = INTERLEAVERS.build({"name": name, **options, "learn_text": learn})
        plans = [learner.plan(an_example(random.Random(seed)), random.Random(seed)) for seed in range(50)]
        learnt = {s.supervised for plan in plans for s in plan if isinstance(s, TextSegment)}
        law(learnt <= {learn}, name, "text is learnt if learn_text says so, and only then")


def an_example(rng: random.Random) -> Example:
    """Make an utterance of 1 to 12 words with pauses between some of them."""
    words, now = [], rng.uniform(0, 0.3)
    for i in range(rng.randint(1, 12)):
        end = now + rng.uniform(0.05, 0.6)
        words.append(Word(f"word{i}", now, end))
        now = end + rng.choice((0.0, 0.0, rng.uniform(0, 0.4)))
    duration = now + rng.uniform(0, 0.3)
    return Example("utt", duration, " ".join(w.text for w in words), tuple(words))


def _check_ratio(name: str, options: dict[str, Any]) -> None:
    """Check that `ratio` is the share of speech: of 200 utterances on average, and exactly where it is 0 or 1."""
    ratio = options.get("ratio", keyword_parameters(INTERLEAVERS[name])["ratio"].default)
    heard = spoken = 0
    for seed in range(200):
        example = an_example(random.Random(seed))
        plans = [
            INTERLEAVERS.build({"name": name, **options, "ratio": share}).plan(example, random.Random(seed))
            for share in (0.0, 1.0, ratio)
        ]
        text = " ".join(s.text for s in plans[0] if isinstance(s, TextSegment))
        law(len(plans[0]) == 1 and text == example.transcript, name, "a ratio of 0 is the text view")
        law(plans[1] == (SpeechSegment(0.0, example.duration),), name, "a ratio of 1 is the speech view")
        spoken += len(example.words)
        heard += len(example.words) - sum(len(s.text.split()) for s in plans[2] if isinstance(s, TextSegment))
    law(abs(heard / spoken - ratio) < RATIO_TOLERANCE, name, "the share of words that are heard is the ratio")
