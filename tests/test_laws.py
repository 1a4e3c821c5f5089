"""Every registered part, plugins included, keeps the law of its kind."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.config import load_parts
from toolkit.interfaces import ADAPTERS, DECODERS, ENCODERS, INTERLEAVERS, LOSSES, Adapter
from toolkit.testing import check_adapter, check_decoder, check_encoder, check_interleaver, check_loss
from toolkit.types import Padded

load_parts()

NEEDED: dict[str, dict[str, Any]] = {"weighted": {"weights": {"cross_entropy": 1.0, "ctc": 0.3}}}
"""options that a part has no default for"""


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_adapter_keeps_its_law(name: str) -> None:
    check_adapter(name)


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
    assert own == [{"joined", "ssl", "whisper"}, {"causal_lm", "lora"}]


def test_causal_lm_keeps_its_law(tiny_llm: Path) -> None:
    check_decoder("causal_lm", model=str(tiny_llm))


class Leaky(Adapter):
    """Averages over the padded row: the commonest bug of the field."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.project = torch.nn.Linear(input_dim, output_dim)

    def forward(self, frames: Padded) -> Padded:
        mean = frames.zeroed().mean(1, keepdim=True)
        return Padded(self.project(mean), torch.ones_like(frames.lengths))

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return torch.ones_like(lengths)


def test_a_leaking_adapter_is_caught_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS._classes, "leaky", Leaky)
    with pytest.raises(AssertionError, match="'leaky' breaks the law: a row does not depend on its neighbours"):
        check_adapter("leaky")


class WrongLength(Leaky):
    """Says that it halves and does not."""

    def forward(self, frames: Padded) -> Padded:
        return Padded(self.project(frames.zeroed()), frames.lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return (lengths + 1) // 2


def test_a_wrong_length_formula_is_caught_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS._classes, "wrong", WrongLength)
    with pytest.raises(AssertionError, match="output_lengths is the real length"):
        check_adapter("wrong")
