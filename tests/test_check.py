"""`toolkit check`: each law as it holds, the first that breaks by name, and an exit status for scripts."""

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from toolkit.cli import main
from toolkit.config import load_parts
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, DECODERS, ENCODERS, INTERLEAVERS, LOSSES, Adapter, Interleaver
from toolkit.testing import check_decoder, check_interleaver, check_loss
from toolkit.testing.check import CHECKS, STAND_INS, find_kind, read_options
from toolkit.testing.laws import recorded
from toolkit.types import Example, Padded, Plan, SpeechSegment, TextSegment

load_parts()


class Leaky(Adapter):
    """Subtracts the mean of the padded row."""

    def __init__(self, input_dim: int, output_dim: int, *, leak: bool = True) -> None:
        super().__init__()
        self.project = torch.nn.Linear(input_dim, output_dim)
        self.leak = leak

    def forward(self, frames: Padded) -> Padded:
        values = frames.zeroed()
        return Padded(self.project(values - self.leak * values.mean(1, keepdim=True)), frames.lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return lengths


class Careless(Interleaver):
    """Forgets the pauses, and now and then its last word: some utterances are planned well, some are not."""

    def plan(self, example: Example, rng: random.Random) -> Plan:
        if len(example.words) % 3:
            return (SpeechSegment(0.0, example.duration),)
        return (TextSegment(" ".join(word.text for word in example.words[:-1])),)


class Asserting(Leaky):
    """Fails for a reason of its own."""

    def forward(self, frames: Padded) -> Padded:
        assert frames.lengths.max() < 0, "of its own"
        return frames


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS._classes, "leaky", Leaky)
    monkeypatch.setitem(ADAPTERS._classes, "asserting", Asserting)
    monkeypatch.setitem(INTERLEAVERS._classes, "careless", Careless)


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    """Return the exit status, the lines of the output and the errors of a check."""
    capsys.readouterr()
    status = main(["check", *arguments])
    said = capsys.readouterr()
    return status, said.out.splitlines(), said.err


def test_every_kind_has_a_check() -> None:
    assert {kind: check.__name__ for kind, check in CHECKS.items()} == {kind: f"check_{kind}" for kind in CHECKS}
    assert set(CHECKS) == {registry.kind for registry in (ENCODERS, ADAPTERS, DECODERS, INTERLEAVERS, LOSSES)}


def test_a_lawful_part_has_a_tick_for_each_law(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, errors = checked(capsys, "words", "interleaver", "interleaver.ratio=0.3")
    assert (status, errors) == (0, "")
    assert lines == [
        "interleaver 'words'",
        "  ✓ an unknown key is refused",
        "  ✓ the same rng gives the same plan",
        "  ✓ speech segments are not empty",
        "  ✓ speech segments are in order and do not overlap",
        "  ✓ speech is inside the cut",
        "  ✓ text and speech cover the transcript exactly once",
        "  ✓ without word times what is not read stays speech",
        "  ✓ a ratio of 0 is the text view",
        "  ✓ a ratio of 1 is the speech view",
        "  ✓ the share of words that are heard is the ratio",
        "  ✓ text is learnt if learn_text says so, and only then",
        "interleaver 'words' keeps its law",
    ]


def test_the_law_that_breaks_is_named_and_the_check_ends_there(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, errors = checked(capsys, "leaky")
    assert status == 1
    assert lines[-2:] == ["  ✓ what stands in the padding means nothing", "  ✗ a row does not depend on its neighbours"]
    assert errors == "toolkit check: 'leaky' breaks the law: a row does not depend on its neighbours\n"


def test_a_law_that_holds_at_first_has_no_tick(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, errors = checked(capsys, "careless")
    assert status == 1
    assert [line for line in lines if "cover" in line] == ["  ✗ text and speech cover the transcript exactly once"]
    assert errors.endswith("'careless' breaks the law: text and speech cover the transcript exactly once\n")


def test_options_are_those_of_the_part_with_its_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(capsys, "leaky", "adapter.leak=false")[0] == 0
    assert read_options("adapter", "stack", ["adapter.factor=3", "adapter.hidden_dim=null"]) == {
        "factor": 3,
        "hidden_dim": None,
    }
    weights = {"weights": {"cross_entropy": 1.0, "ctc": 0.3}}
    assert read_options("loss", "weighted", ["loss.weights={cross_entropy:1.0,ctc:0.3}"]) == weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("leeky", "unknown part 'leeky'. Did you mean 'leaky'?"),
        ("leaky loss", "unknown loss 'leaky'"),
        ("leaky adaptor", "unknown kind 'adaptor'. Did you mean 'adapter'?"),
        ("ctc", "say which: `toolkit check ctc adapter` or `toolkit check ctc loss`"),
        ("stack adapter.factr=3", "Key 'factr' not in 'StackAdapterConfig'"),
        ("stack adapter.factor=x", "could not be converted to Integer"),
        ("stack adapter.factor=1,2", "cannot use 'adapter.factor=1,2'"),
        ("stack factor=3", "options of this part are adapter.KEY=VALUE"),
        ("stack loss.factor=3", "options of this part are adapter.KEY=VALUE"),
        ("stack adapter.factor=[", "cannot read 'adapter.factor=['"),
        ("ssl", "encoder.model has no default: encoder 'ssl' needs it"),
    ],
)
def test_a_slip_is_told_before_anything_is_checked(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, errors = checked(capsys, *arguments.split())
    assert status == 2
    assert message in errors


def test_an_error_of_the_part_itself_is_not_taken_for_a_law(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError, match="of its own"):
        main(["check", "asserting"])


@pytest.mark.parametrize("name", ["whisper", "causal_lm"])
def test_a_tiny_model_stands_in(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, _ = checked(capsys, name)
    assert status == 0
    assert lines[-1].endswith(f"'{name}' keeps its law")
    assert STAND_INS.keys() == {ENCODERS["whisper"], DECODERS["causal_lm"]}


def test_a_model_that_is_given_is_used(
    tiny_llm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.testing.check.STAND_INS", {})
    assert checked(capsys, "causal_lm", f"decoder.model={tiny_llm}")[0] == 0
    with pytest.raises(ConfigError, match=r"decoder\.model has no default"):
        check_decoder("causal_lm")


def test_a_name_alone_finds_its_kind() -> None:
    assert find_kind("words") == "interleaver"
    assert find_kind("ctc", "loss") == "loss"


def test_laws_are_recorded_for_those_who_ask_only() -> None:
    with recorded() as outer:
        with recorded() as inner:
            check_interleaver("whole")
        check_loss("cross_entropy")
    check_loss("cross_entropy")
    assert len(inner) == 7
    assert set(inner) < set(outer)
    assert "the loss is finite" in outer
    assert all(outer.values())
