"""Prompts of a suite's items: the instruction and the speech, put together by a template."""

from __future__ import annotations

import re

from toolkit.data.tokenization import SLOT, slot
from toolkit.errors import ConfigError
from toolkit.suites.item import Item

INSTRUCTION = "{instruction}"
BESIDE, SPOKEN = f"{INSTRUCTION} {SLOT}", SLOT
"""the templates of suites whose instruction is text beside the speech, and of those where the speech says it all"""
_PLACES = re.compile(re.escape(INSTRUCTION) + "|" + re.escape(SLOT))
_SLOT_IN_TEXT = re.compile(r"\{(speech\d*)\}")


def check_template(template: str, *, spoken: bool) -> None:
    """Refuse a template that would lose the speech or the instruction.

    Args:
        template: with `{speech}`, where all recordings of an item go, and `{instruction}`.
        spoken: whether the speech is the instruction, so that there is no text to put.

    Raises:
        ConfigError: a place is missing, there twice, or there for nothing.
    """
    found = _PLACES.findall(template)
    wanted = [SLOT] if spoken else [SLOT, INSTRUCTION]
    if sorted(found) != sorted(wanted):
        why = " (the recordings of this suite speak the instruction)" if spoken else ""
        raise ConfigError(
            f"--template must hold {' and '.join(wanted)} once each, and no other place{why}: {template!r}"
        )


def prompt_of(item: Item, template: str) -> str:
    """Fill the template in one go, so that braces in an instruction are never a place.

    What an instruction itself spells like the slot of a recording gets blanks inside, or the tokenizer would take
    it for one: `{speech}` becomes `{ speech }`.
    """
    recordings = " ".join(slot(number) for number in range(len(item.sounds)))
    text = _SLOT_IN_TEXT.sub(r"{ \1 }", item.instruction)
    return _PLACES.sub(lambda place: recordings if place.group() == SLOT else text, template)
