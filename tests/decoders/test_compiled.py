"""Norms and MLPs that run compiled: the same scores and gradients, few programs, and nothing else is touched."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from toolkit.config import Config
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.decoders.compiled import pieces_of
from toolkit.decoders.lora import LoRADecoder
from toolkit.errors import ConfigError
from toolkit.interfaces import DECODERS, Decoder
from toolkit.stages import train
from toolkit.types import GenerationOptions

ConfigOf = Callable[..., Config]
LENGTHS = ([5, 9, 3], [4], [11, 2, 7, 7], [30, 1], [1, 1])


@pytest.fixture
def programs() -> Callable[[], int]:
    """How many programs torch has compiled in the test."""
    torch._dynamo.reset()
    counters.clear()
    return lambda: counters["stats"]["unique_graphs"]


def trained_on(decoder: CausalLMDecoder, lengths: list[int]) -> dict[str, Tensor]:
    """Return the scores of rows, and the gradients of these and of what is trained."""
    generator = torch.Generator().manual_seed(sum(lengths))
    rows = [torch.randn(n, decoder.embedding_dim, generator=generator).requires_grad_() for n in lengths]
    decoder.zero_grad()
    scores = decoder.outputs(rows, [torch.arange(n) for n in lengths]).logits
    scores.log_softmax(-1)[:, 5].sum().backward()
    found = {f"row {i}": row.grad for i, row in enumerate(rows) if row.grad is not None}
    found |= {name: p.grad.clone() for name, p in decoder.named_parameters() if p.grad is not None}
    return {"scores": scores.detach(), **found}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5 * max(1.0, float(value.abs().max())))


@pytest.mark.usefixtures("compiler")
def test_compiled_gives_the_same_and_one_program_a_kind_serves_all_lengths(
    programs: Callable[[], int], tiny_llm: Path
) -> None:
    plain, compiled = (CausalLMDecoder(model=str(tiny_llm), keep_prefixes=0) for _ in range(2))
    assert compiled.compile_pieces()
    assert compiled.compile_pieces()  # once more is no more
    assert compiled.compile_seconds == 0
    for lengths in LENGTHS:
        found = trained_on(compiled, lengths)
        assert len(found) == 1 + len(lengths)
        assert_close(found, trained_on(plain, lengths))
    assert programs() == 2  # of norms and of MLPs, whatever the length, in two layers
    took = compiled.compile_seconds
    assert took > 0
    assert_close(trained_on(deepcopy(compiled), [8, 3]), trained_on(plain, [8, 3]))
    assert (programs(), compiled.compile_seconds) == (2, took)
    assert plain.compile_seconds == 0


def test_what_needs_no_gradient_is_not_compiled_and_gives_exactly_what_it_gave(
    programs: Callable[[], int], tiny_llm: Path
) -> None:
    plain, compiled = (CausalLMDecoder(model=str(tiny_llm)) for _ in range(2))
    assert compiled.compile_pieces()
    rows = [torch.randn(n, plain.embedding_dim) for n in (4, 6)]
    options = GenerationOptions(max_new_tokens=5, eos_token_ids=(1,))
    assert compiled.generate(rows, options) == plain.generate(rows, options)
    positions = [torch.arange(len(row)) for row in rows]
    learning = [row.clone().requires_grad_() for row in rows]
    with torch.no_grad():
        for given in (rows, learning):
            assert torch.equal(compiled.outputs(given, positions).logits, plain.outputs(given, positions).logits)
    assert (programs(), compiled.compile_seconds) == (0, 0.0)
    assert list(compiled.state_dict()) == list(plain.state_dict())


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("targets", "mlps"), [(["q_proj", "v_proj"], 2), (["q_proj", "up_proj"], 0)])
def test_an_mlp_that_learns_is_left_alone(targets: list[str], mlps: int, tiny_llm: Path) -> None:
    decoder = LoRADecoder(model=str(tiny_llm), dropout=0.0, targets=targets)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if name in decoder.trained():
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    plain = trained_on(decoder, [5, 9])
    assert decoder.compile_pieces()
    pieces = [type(piece).__name__ for piece in pieces_of(decoder.lm.base_model)]
    assert (pieces.count("LlamaRMSNorm"), pieces.count("LlamaMLP")) == (5, mlps)
    assert len(pieces) == 5 + mlps
    assert_close(trained_on(decoder, [5, 9]), plain)


SMALL = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 20}


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        (LlamaConfig(**SMALL, intermediate_size=8), {"LlamaRMSNorm": 5, "LlamaMLP": 2}),
        (Qwen3Config(**SMALL, intermediate_size=8, head_dim=8), {"Qwen3RMSNorm": 9, "Qwen3MLP": 2}),
        (GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=20), {"LayerNorm": 5, "GPT2MLP": 2}),
        (OPTConfig(**SMALL, ffn_dim=8, word_embed_proj_dim=16), {"LayerNorm": 5}),  # its MLP is no module
        (MixtralConfig(**SMALL, intermediate_size=8, num_local_experts=2), {"MixtralRMSNorm": 5}),  # a router decides
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_pieces_are_found_by_how_they_are_built(config: PreTrainedConfig, kinds: dict[str, int]) -> None:
    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(config).base_model
    found = [type(piece).__name__ for piece in pieces_of(model)]
    assert {kind: found.count(kind) for kind in found} == kinds


@pytest.mark.usefixtures("compiler")
def test_a_training_compiles_and_says_how_long_it_took(
    programs: Callable[[], int], config_of: ConfigOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = []
    for name, compiled in (("plain", "false"), ("compiled", "true")):
        settings = ("train.steps=3", "train.warmup=0.5", "train.validate_every=3", f"train.compile={compiled}")
        train.run(config_of(tmp_path / name, *settings))
        lines = (tmp_path / name / train.LOG).read_text().splitlines()
        logs.append([json.loads(line) for line in lines])
        assert ("compiling took" in capsys.readouterr().err) == (compiled == "true")
    plain, timed = ([row["loss"] for row in log if "loss" in row] for log in logs)
    assert len(timed) == 3
    assert timed == pytest.approx(plain, rel=1e-4)
    assert [row["compile_seconds"] > 0 for row in logs[1] if "compile_seconds" in row] == [True]
    assert not any("compile_seconds" in row for row in logs[0])
    assert programs() == 2


class BareDecoder(CausalLMDecoder):
    """As one of a plugin that compiles nothing."""

    compile_pieces = Decoder.compile_pieces


@pytest.mark.usefixtures("compiler")
def test_a_decoder_that_cannot_is_said(config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DECODERS._classes, "bare", BareDecoder)
    config = config_of(tmp_path / "exp", "train.compile=true")
    config = replace(config, decoder={**config.decoder, "name": "bare"})
    with pytest.raises(ConfigError, match=r"train\.compile: decoder=bare compiles nothing of .*llm: say train"):
        train.run(config)
