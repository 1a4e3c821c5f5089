"""Training with batches by cost: the log says what was padding, and who makes the batches changes nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from toolkit.config import Config
from toolkit.data.batches import Collator
from toolkit.data.budget import Share
from toolkit.data.order import StepOrder
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES
from toolkit.plan.batches import plan_batches
from toolkit.plan.manifest import read_manifest
from toolkit.stages import train
from toolkit.training.module import ImitationModule
from toolkit.training.waste import Waste

ConfigOf = Callable[..., Config]


def weights(exp: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_file(exp / "checkpoint" / "trainable.safetensors")
    return state


def log(exp: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (exp / "train_log.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]


def assert_same(one: Path, other: Path, within: float) -> None:
    assert [row["loss"] for row in log(one)] == pytest.approx([row["loss"] for row in log(other)], abs=within)
    found = weights(other)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, found[name], atol=within, rtol=1e-4)


def test_forward_passes_by_cost_learn_the_same(config_of: ConfigOf, tmp_path: Path) -> None:
    for name, tokens in (("rows", 0), ("cost", 90)):
        train.run(config_of(tmp_path / name, f"train.micro_batch_tokens={tokens}"))
    assert_same(tmp_path / "rows", tmp_path / "cost", 1e-5)


def test_steps_by_cost_are_those_of_the_plan_and_workers_change_nothing(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: dict[int, list[tuple[str, str]]] = {}
    planned: dict[int, list[tuple[str, str]]] = {}
    collate, call = Collator.__call__, StepOrder.__call__

    def watch(self: Collator, examples: Any, epoch: int, step: int) -> Any:
        trained.setdefault(step, []).extend((e.id, e.prompt) for e in examples)
        return collate(self, examples, epoch, step)

    by_cost = "train.batch_tokens=300", "train.steps=9"
    config = config_of(tmp_path / "alone", *by_cost)
    with monkeypatch.context() as patch:
        patch.setattr(Collator, "__call__", watch)
        train.run(config)
    del trained[0]  # the development set is looked at in step 0
    examples = read_manifest(config, LOSSES.build(config.loss)).examples

    def remember(self: StepOrder, step: int, rank: int = 0, world: int = 1) -> list[Share]:
        shares = call(self, step, rank, world)
        rows = [examples[i] for share in shares for i in share.rows]
        planned[step] = [(e.id, e.prompt) for e in rows]
        return shares

    with monkeypatch.context() as patch:
        patch.setattr(StepOrder, "__call__", remember)
        assert not plan_batches(config, ranks=1, workers=2, epochs=3).faults
    assert trained
    assert trained == {step: planned[step] for step in trained}
    train.run(config_of(tmp_path / "helped", *by_cost, "train.workers=2"))
    assert_same(tmp_path / "alone", tmp_path / "helped", 0.0)


def test_the_log_says_what_was_padding_and_how_long_data_took(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[int, int]] = []
    run = CausalLMDecoder._run

    def watch(self: Any, embeddings: Any, mask: Any, *rest: Any, **more: Any) -> Any:
        ran.append((int(mask[:, -embeddings.shape[1] :].sum()), embeddings.shape[0] * embeddings.shape[1]))
        return run(self, embeddings, mask, *rest, **more)

    told: list[str] = []
    monkeypatch.setattr(train, "say", told.append)
    with monkeypatch.context() as patch:
        patch.setattr(CausalLMDecoder, "_run", watch)
        train.run(config_of(tmp_path, "train.validation_utterances=1", "train.steps=1", "train.validate_every=9"))
    (row,) = log(tmp_path)
    real, padded = map(sum, zip(*ran, strict=True))
    assert 0 < row["padding"] < 1
    assert row["padding"] == pytest.approx(1 - real / padded, abs=1e-5)
    assert 0 < row["waiting"] < 1
    assert any(f"{100 * row['padding']:.1f} % of what the LLM ran was padding" in line for line in told)


def test_waste_adds_up_over_steps_and_leaves_validation_out() -> None:
    spent = {"ran": (0, 0), "waited": 0.0}
    waste = Waste(lambda: spent["ran"], lambda: spent["waited"])  # type: ignore[arg-type, return-value]
    assert waste.summary() == "0.0 % of the time was waiting for data"
    spent |= {"waited": 0.5}
    waste.begin()
    spent |= {"ran": (90, 100)}
    assert waste.end(2.0) == {"padding": 0.1, "waiting": 0.25}
    spent |= {"ran": (1000, 9000)}  # validation
    waste.begin()
    spent |= {"ran": (1040, 9050)}
    assert waste.end(2.0) == {"padding": 0.2, "waiting": 0.0}
    assert waste.summary() == "13.3 % of what the LLM ran was padding, 12.5 % of the time was waiting for data"


def test_a_batch_that_is_idle_teaches_nothing(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.run(config_of(tmp_path / "alone", "train.batch_tokens=300"))
    call = StepOrder.__call__

    def beside(self: StepOrder, step: int, rank: int = 0, world: int = 1) -> list[Share]:
        shares = call(self, step, rank, world)
        return [*shares, replace(shares[0], idle=True)]

    monkeypatch.setattr(StepOrder, "__call__", beside)
    train.run(config_of(tmp_path / "beside", "train.batch_tokens=300"))
    assert_same(tmp_path / "alone", tmp_path / "beside", 1e-6)


def test_an_interrupted_training_by_cost_goes_on_as_if_it_had_not_been(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_cost = "train.batch_tokens=300", "train.micro_batch_tokens=150", "train.steps=11"
    train.run(config_of(tmp_path / "whole", *by_cost))
    step = ImitationModule.training_step

    def interrupt(self: Any, batches: Any, index: int) -> None:
        if self.global_step == 5:
            raise KeyboardInterrupt
        step(self, batches, index)

    with monkeypatch.context() as patch:
        patch.setattr(ImitationModule, "training_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train.run(config_of(tmp_path / "cut", *by_cost))
    train.run(config_of(tmp_path / "cut", *by_cost))
    found = weights(tmp_path / "cut")
    for name, tensor in weights(tmp_path / "whole").items():
        torch.testing.assert_close(tensor, found[name], atol=1e-6, rtol=1e-5)


def test_rows_and_positions_that_contradict_each_other_are_refused(config_of: ConfigOf, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"say train\.micro_batch_tokens, or train\.micro_batch_size=0"):
        train.run(config_of(tmp_path, "train.batch_tokens=300", "train.micro_batch_size=2"))
