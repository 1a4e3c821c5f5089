"""Every registered part, plugins included, keeps the law of its kind."""

from pathlib import Path
from typing import Any

import pytest

from toolkit.config import load_parts
from toolkit.errors import UnknownNameError
from toolkit.interfaces import ADAPTERS, DECODERS, ENCODERS, INTERLEAVERS, LOSSES, REGISTRIES
from toolkit.registry import keyword_parameters
from toolkit.testing import (
    check_adapter,
    check_decoder,
    check_encoder,
    check_interleaver,
    check_lengths,
    check_loss,
)
from toolkit.testing.laws import LAWS, recorded

load_parts()
ROOT = Path(__file__).resolve().parents[1]

NEEDED: dict[str, dict[str, Any]] = {"weighted": {"weights": {"cross_entropy": 1.0, "ctc": 0.3}}}
"""options that a part has no default for"""

NARROW: dict[str, Any] = {
    "hidden_dim": 4, "heads": 2, "time_heads": 2, "layer_heads": 2, "feedforward_dim": 4, "bottleneck": 4,
    "layers_before": 1, "layers_after": 1, "query_layers": 1, "queries": 2,
}  # fmt: skip
"""options that no length depends on but by a factor, small: for thousands of forward passes"""


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_adapter_keeps_its_law(name: str) -> None:
    check_adapter(name)


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_the_length_formula_is_the_real_forward_from_1_to_3000_frames(name: str) -> None:
    own = keyword_parameters(ADAPTERS[name])
    small = NARROW | {"layers": 1} if "heads" in own else NARROW  # layers without heads may be strides
    # Where the formula is a bound on what the content decides, every length tells as much as the next.
    lengths = range(1, 3001) if ADAPTERS[name].exact_lengths else [*range(1, 65), *range(65, 3001, 97)]
    check_lengths(name, lengths, **{key: value for key, value in small.items() if key in own})


@pytest.mark.parametrize("name", list(INTERLEAVERS))
def test_interleaver_keeps_its_law(name: str) -> None:
    check_interleaver(name)


@pytest.mark.parametrize("name", list(LOSSES))
def test_loss_keeps_its_law(name: str) -> None:
    check_loss(name, **NEEDED.get(name, {}))


@pytest.mark.parametrize("window", ["padded", "true_length"])
def test_whisper_keeps_its_law(window: str, tiny_whisper: Path) -> None:
    check_encoder("whisper", model=str(tiny_whisper), window=window)


def test_every_encoder_and_decoder_has_a_law_test() -> None:
    """Those that need models of their own are in tests/encoders and tests/decoders."""
    own = [{n for n in kind if kind[n].__module__.startswith("toolkit.")} for kind in (ENCODERS, DECODERS)]
    assert own == [{"joined", "ssl", "units", "whisper"}, {"causal_lm", "lora"}]


def test_causal_lm_keeps_its_law(tiny_llm: Path) -> None:
    check_decoder("causal_lm", model=str(tiny_llm))


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in REGISTRIES.items() for name in names])
def test_an_unknown_key_is_refused_before_anything_is_loaded(kind: str, name: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown key of {kind} '{name}' 'no_such_key'"):
        REGISTRIES[kind].build({"name": name, "no_such_key": 1, "model": "nowhere"})


def test_the_laws_that_are_listed_are_those_that_are_looked_at(tiny_llm: Path, tiny_whisper: Path) -> None:
    looked: dict[str, set[str]] = {}
    for kind, check, names, options in (
        ("encoder", check_encoder, ["whisper"], {"model": str(tiny_whisper), "window": "true_length"}),
        ("adapter", check_adapter, ["stack", "ctc"], {}),
        ("decoder", check_decoder, ["causal_lm"], {"model": str(tiny_llm)}),
        ("interleaver", check_interleaver, ["words"], {}),
        ("loss", check_loss, ["cross_entropy", "distillation"], {}),
    ):
        for name in names:
            with recorded() as laws:
                check(name, **options)
            looked[kind] = looked.get(kind, set()) | set(laws)
    assert looked == {kind: set(laws) for kind, laws in LAWS.items()}


def test_the_tutorial_lists_each_law_with_the_fault_that_it_catches() -> None:
    rows = ["| of | law | what it catches |", "|---|---|---|"]
    rows += [f"| {kind} | {law} | {fault} |" for kind, laws in LAWS.items() for law, fault in laws.items()]
    table = "\n".join(rows) + "\n"
    assert table in (ROOT / "docs/tutorial.md").read_text(), f"the table of docs/tutorial.md is to be:\n{table}"
