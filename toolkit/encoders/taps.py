"""Which layers of an encoder are tapped: numbers of its own literature, or negative ones from the last."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from toolkit.errors import ConfigError


def tapped(taps: Seq[int], count: int, layers: int, model: str) -> list[int]:
    """Return taps as numbers from 0 on; -1 is the last.

    Args:
        taps: as configured.
        count: how many there are to choose from.
        layers: blocks of the model, for the message.
        model: its name, for the message.

    Raises:
        ConfigError: the model has no such tap.
    """
    if wrong := [tap for tap in taps if not -count <= tap < count]:
        raise ConfigError(
            f"encoder.taps of {model}, which has {layers} layers, are 0 to {count - 1} "
            f"or, from the last, -1 to -{count}; not {wrong}"
        )
    return [tap % count for tap in taps]
