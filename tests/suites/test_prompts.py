"""Prompts from a template: braces of an instruction are text, and a place that is missing is refused."""

from pathlib import Path

import pytest

from toolkit.data.tokenization import check_prompt
from toolkit.errors import ConfigError
from toolkit.suites.item import Item, Sound
from toolkit.suites.prompts import BESIDE, SPOKEN, check_template, prompt_of


def item(instruction: str, sounds: int = 1) -> Item:
    return Item("p/0", "p", tuple(Sound(str(i), Path(str(i))) for i in range(sounds)), instruction=instruction)


@pytest.mark.parametrize(
    ("instruction", "sounds", "template", "prompt"),
    [
        ("Say it.", 1, BESIDE, "Say it. {speech}"),
        ("", 1, SPOKEN, "{speech}"),
        ("Same?", 2, BESIDE, "Same? {speech} {speech2}"),
        ("Say it.", 1, "{speech}\n{instruction} Now.", "{speech}\nSay it. Now."),
        ("Use {x}, {instruction} and {}.", 1, BESIDE, "Use {x}, {instruction} and {}. {speech}"),
        ("Say {speech} and {speech2}", 1, BESIDE, "Say { speech } and { speech2 } {speech}"),
        ("", 2, "Answer: {speech}", "Answer: {speech} {speech2}"),
    ],
)
def test_a_template_is_filled_and_text_stays_text(instruction: str, sounds: int, template: str, prompt: str) -> None:
    made = prompt_of(item(instruction, sounds), template)
    assert made == prompt
    assert check_prompt(made) == sounds


@pytest.mark.parametrize(
    ("template", "spoken"),
    [
        ("{instruction}", False),
        ("{speech}", False),
        ("{speech} {speech} {instruction}", False),
        ("{instruction} {speech}", True),
        ("tell me", True),
    ],
)
def test_a_template_without_its_places_is_refused(template: str, spoken: bool) -> None:
    with pytest.raises(ConfigError, match="--template must hold"):
        check_template(template, spoken=spoken)


def test_the_templates_of_the_suites_are_well() -> None:
    check_template(BESIDE, spoken=False)
    check_template(SPOKEN, spoken=True)
