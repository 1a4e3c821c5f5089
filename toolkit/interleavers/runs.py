"""Runs of words: how many words are heard, where their runs lie, and the plan that they make.

Planners that work on words differ in which words they choose, by index, and in nothing else. Here is the rest.
"""

import random
from collections.abc import Sequence as Seq
from collections.abc import Set as AbstractSet
from itertools import groupby

from toolkit.errors import ConfigError
from toolkit.types import Plan, Segment, SpeechSegment, TextSegment, Word


def check_ratio(ratio: float) -> float:
    """Return the ratio if it is a share.

    Raises:
        ConfigError: it is not between 0 and 1.
    """
    if not 0 <= ratio <= 1:
        raise ConfigError(f"interleaver.ratio is the share of words that stay speech, 0 to 1, not {ratio}")
    return ratio


def check_length(key: str, length: int) -> int:
    """Return the length of a run if there can be such a run.

    Raises:
        ConfigError: it is less than one word.
    """
    if length < 1:
        raise ConfigError(f"interleaver.{key} is a number of words, 1 or more, not {length}")
    return length


def heard_count(ratio: float, count: int, rng: random.Random) -> int:
    """Round `ratio * count` up or down by chance, so that over many short utterances the share is the ratio."""
    whole, rest = divmod(ratio * count, 1)
    return int(whole) + int(rng.random() < rest)


def fixed_runs(total: int, length: int) -> list[int]:
    """Divide `total` words into runs of `length`; what does not fill a run makes one shorter run."""
    full, rest = divmod(total, length)
    return [length] * full + [rest] * (rest > 0)


def scatter(runs: Seq[int], count: int, rng: random.Random) -> set[int]:
    """Place runs of heard words among `count` words at random, apart from each other where there is room.

    Args:
        runs: the length of each run; together at most `count`.
        count: words of the utterance.
        rng: draws the places.

    Returns:
        The indices of the heard words, as many as `sum(runs)`.
    """
    places = range(count - sum(runs) + 1)  # before each word that is read, and after the last
    room = len(runs) <= len(places)
    chosen = rng.sample(places, len(runs)) if room else rng.choices(places, k=len(runs))
    heard: set[int] = set()
    for place, length in sorted(zip(chosen, runs, strict=True)):
        first = place + len(heard)
        heard.update(range(first, first + length))
    return heard


def plan_runs(words: Seq[Word], duration: float, heard: AbstractSet[int], *, learn_text: bool = False) -> Plan:
    """Plan alternating runs of heard and read words.

    A heard run reaches to the middle of the pauses around it, the first and last to the ends of the cut, so
    that all-speech is exactly the speech view. Without word times the utterance stays speech.

    Args:
        words: of the utterance, with their times.
        duration: of the cut, in seconds.
        heard: indices of the words that stay speech.
        learn_text: whether the text segments are supervised.
    """
    if not words:
        return (SpeechSegment(0.0, duration),)
    segments: list[Segment] = []
    for is_heard, group in groupby(range(len(words)), key=lambda index: index in heard):
        run = list(group)
        first, last = run[0], run[-1]
        if is_heard:
            start = (words[first - 1].end + words[first].start) / 2 if first else 0.0
            end = (words[last].end + words[last + 1].start) / 2 if last + 1 < len(words) else duration
            segments.append(SpeechSegment(start, end))
        else:
            segments.append(TextSegment(" ".join(words[index].text for index in run), learn_text))
    return tuple(segments)
