"""`toolkit show interleaver NAME --example`: what is heard and read of the sample is its transcript, for every one."""

from __future__ import annotations

import re

import pytest

from toolkit.cli import main
from toolkit.config import load_parts
from toolkit.interfaces import INTERLEAVERS
from toolkit.interleavers.example import TEXT
from toolkit.registry import keyword_parameters

load_parts()


@pytest.mark.parametrize("name", list(INTERLEAVERS))
def test_the_example_of_every_interleaver_is_the_whole_utterance(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "interleaver", name, "--example"]) == 0
    head, _, shown = capsys.readouterr().out.partition("; (heard), read\n")
    assert head.startswith(f"interleaver {name}: ")
    for key in keyword_parameters(INTERLEAVERS[name]):
        assert f"  interleaver.{key}: " in head
    plans = shown.split("the same utterance without word times\n")
    assert len(plans) == 2
    for plan in plans:
        pieces = [re.fullmatch(r"  (?:speech +[\d.]+ to +[\d.]+ s  \((.+)\)|text +(.+))", x) for x in plan.splitlines()]
        assert all(pieces), plan
        # The guessed clock of `uniform` may cut a word in two or pass one over; the others must not.
        if plan is plans[0] or name != "uniform":
            assert " ".join(piece[1] or piece[2] for piece in pieces if piece) == TEXT


def test_only_interleavers_have_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "adapter", "stack", "--example"]) == 2
    assert "--example is for interleavers" in capsys.readouterr().err
