"""The imitate stage: processes and parts give the same file, filters and training agree, the teacher can be kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from toolkit.config import Config
from toolkit.data.batches import Collator
from toolkit.data.teacher import TeacherStore
from toolkit.data.views import Shares, Views
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.errors import ConfigError, DataError, UnknownNameError
from toolkit.interfaces import INTERLEAVERS, LOSSES
from toolkit.models.build import build_model
from toolkit.stages import imitate, train
from toolkit.stages.encode import speech_of
from toolkit.stages.paths import answers_folder

ConfigOf = Callable[..., Config]


@pytest.fixture(scope="module")
def alone(config_of: ConfigOf, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """One process, in one go, in batches of five."""
    return asked(config_of, tmp_path_factory.mktemp("alone"))


def asked(config_of: ConfigOf, work: Path, *more: str) -> Config:
    """Answer the prepared noise in a data folder of its own."""
    prepared = Path(config_of(work).data_dir)
    if not (work / "data").exists():
        shutil.copytree(prepared, work / "data", ignore=shutil.ignore_patterns("answers", "exp"))
    config = config_of(work / "exp", f"data_dir={work}/data", "imitate.batch_size=5", "imitate.max_new_tokens=4", *more)
    imitate.run(config)
    return config


def stores(config: Config) -> dict[str, bytes]:
    data = Path(config.data_dir)
    return {str(path.relative_to(data)): path.read_bytes() for path in data.glob("*/answers/*/store*.jsonl")}


def test_several_processes_write_what_one_writes(alone: Config, config_of: ConfigOf, tmp_path: Path) -> None:
    both = asked(config_of, tmp_path, "imitate.jobs=2", "imitate.top_k=3")
    assert stores(both) == stores(alone)
    assert len(stores(both)) == 3
    assert {path.suffix for path in Path(both.data_dir).glob("train/answers/*/top3/*")} == {".safetensors"}


def test_parts_put_together_are_what_one_writes(
    alone: Config, config_of: ConfigOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("1/2", "2/2"):
        asked(config_of, tmp_path, f"imitate.shard={part}")
        assert f"part {part} is answered" in capsys.readouterr().err
    assert not list((tmp_path / "data").glob("train/answers/*/card.md"))
    together = asked(config_of, tmp_path)
    assert stores(together) == stores(alone)
    assert "answer train: done" in capsys.readouterr().err


def card_of(config: Config) -> tuple[str, dict[str, Any]]:
    (folder,) = Path(config.data_dir).glob("train/answers/*")
    return (folder / "card.md").read_text(), json.loads((folder / "card.json").read_text())


def test_the_card_tells_what_is_learnt(alone: Config, capsys: pytest.CaptureFixture[str]) -> None:
    text, card = card_of(alone)
    llm = imitate.text_llm(alone)
    examples = train.training_examples(alone, llm, LOSSES.build({"name": "cross_entropy"}))
    assert card["kept"] == len(examples) == sum(task["kept"] for task in card["tasks"].values())
    assert card["requests"] == 20 == card["kept"] + card["empty"]
    assert card["utterances"] == 10
    assert card["key"] == llm.key
    assert sum(task["cut"] for task in card["tasks"].values()) == sum(not e.response_complete for e in examples)
    assert sum(sum(counts.values()) for counts in card["asked"]["train"].values()) == 20
    assert set(card["asked"]["test"]) == {"seen_wording", "held_out_wording", "held_out_task"}
    said = {task["target"]: task for task in card["tasks"].values()}
    assert said["transcript"]["words"]["median"] in (3.0, 4.0, 5.0, 6.0)
    assert said["llm"]["tokens"]["longest"] >= said["llm"]["tokens"]["median"] > 0
    for name, task in card["tasks"].items():
        assert len(task["examples"]) == min(5, task["kept"])
        assert f"## Examples of {name}" in text
        assert all(" ".join(example["transcript"].split()) in text for example in task["examples"])
    capsys.readouterr()
    imitate.run(alone)
    assert card_of(alone) == (text, card)  # the date too: nothing new is told
    assert "data card:" in capsys.readouterr().err


def test_filters_drop_from_training_what_the_stage_counts(
    alone: Config, config_of: ConfigOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(alone.data_dir, tmp_path / "data")
    before = stores(alone)
    config = asked(config_of, tmp_path, "imitate.filters=[echo,cut]")
    assert stores(config) == before  # answers are kept, whatever is learnt of them
    text, card = card_of(config)
    dropped = sum(card["dropped"]["cut"].values())
    assert dropped > 0
    assert f"{dropped} of 20 train requests are dropped by filters: cut {dropped} (" in capsys.readouterr().err.replace(
        "\n", ""
    ).replace("  ", " ")
    assert "transcribe" not in card["dropped"]["cut"]
    assert "## What is dropped" in text
    llm = imitate.text_llm(config)
    examples = train.training_examples(config, llm, LOSSES.build(config.loss))
    assert len(examples) == card["kept"] == 20 - dropped - card["empty"]
    assert all(example.response_complete for example in examples)


def test_an_unknown_filter_and_part_are_refused_before_anything_is_loaded(config_of: ConfigOf, tmp_path: Path) -> None:
    for stage in (imitate, train):
        with pytest.raises(UnknownNameError, match="Did you mean 'echo'"):
            stage.run(config_of(tmp_path, "imitate.filters=[ecko]", f"decoder.model={tmp_path}"))
    with pytest.raises(ConfigError, match=r"imitate\.shard"):
        imitate.run(config_of(tmp_path, "imitate.shard=3/2", f"decoder.model={tmp_path}"))


FULL = "imitate.top_k=100000"


@pytest.fixture(scope="module")
def kept(config_of: ConfigOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imitation data with the whole distribution of the teacher."""
    exp = tmp_path_factory.mktemp("kept")
    imitate.run(config_of(exp, FULL))
    return exp


def test_a_training_step_by_the_stored_teacher_is_one_by_the_live_one(
    config_of: ConfigOf, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and gradients, interleaved rows and rows of plain speech."""
    config = config_of(tmp_path, FULL)
    model = build_model(config.encoder, config.adapter, config.decoder, config.cut, config.seed)
    loss, llm = LOSSES.build(config.loss), imitate.text_llm(config, model.decoder)
    examples = train.training_examples(config, llm, loss)
    folder = answers_folder(config, "train", llm.key)
    speech = speech_of(config, model.encoder, "train")
    results = []
    for store in (None, TeacherStore(folder, config.imitate.top_k)):
        views = Views(INTERLEAVERS.build(config.interleaver), Shares(0.3), seed=1)
        collate = Collator(llm.tokenizer, views, speech.__getitem__, teacher=True, stored=store)
        batch = collate(examples, 0, 0)
        assert any(len(row) > 4 for row in batch.sequences)  # some are interleaved
        model.zero_grad()
        if store is not None:
            monkeypatch.setattr(CausalLMDecoder, "as_text_llm", None)  # whoever runs a teacher needs it
        output = loss(model(batch, loss.needs))
        output.total.backward()
        grads = [p.grad.clone() for p in model.adapter.parameters() if p.grad is not None]
        results.append((output.total.detach() / output.count, output.count, grads))
    (live, count, slopes), (stored, stored_count, stored_slopes) = results
    assert count == stored_count > 100
    assert float(stored) == pytest.approx(float(live), abs=1e-5)
    assert float(live) > 1e-3
    assert len(slopes) == len(stored_slopes) > 0
    for one, other in zip(slopes, stored_slopes, strict=True):
        torch.testing.assert_close(other / count, one / count, atol=1e-5, rtol=1e-4)


def test_a_training_by_the_stored_teacher_is_one_by_the_live_one(
    config_of: ConfigOf, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, weights = {}, {}
    for name, top_k in (("live", "imitate.top_k=0"), ("stored", FULL)):
        if name == "stored":
            monkeypatch.setattr(CausalLMDecoder, "as_text_llm", None)  # no teacher runs, on dev neither
        train.run(config_of(tmp_path / name, top_k))
        rows = [json.loads(line) for line in (tmp_path / name / "train_log.jsonl").read_text().splitlines()]
        logs[name] = [row.get("validation", row)["loss"] for row in rows]
        weights[name] = load_file(tmp_path / name / "checkpoint/trainable.safetensors")
    assert len(logs["live"]) > 6
    assert logs["stored"] == pytest.approx(logs["live"], abs=1e-5)
    for key, tensor in weights["live"].items():
        torch.testing.assert_close(weights["stored"][key], tensor, atol=1e-5, rtol=1e-4)


def test_rows_without_a_stored_teacher_are_never_mixed_with_others(
    config_of: ConfigOf, kept: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"\d+ of \d+ train examples have no stored teacher.*imitate\.top_k=7"):
        train.run(config_of(tmp_path / "other", "imitate.top_k=7"))
    imitate.run(config_of(tmp_path / "more", "imitate.tasks_per_cut=4"))
    with pytest.raises(DataError, match=r"examples have no stored teacher"):
        train.run(config_of(tmp_path / "more", "imitate.tasks_per_cut=4", FULL))


def test_a_loss_that_needs_more_of_the_teacher_runs_it_and_says_so(
    config_of: ConfigOf, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.run(config_of(tmp_path, FULL, "loss=hidden", "train.steps=1"))
    assert "loss=hidden needs more of the teacher than imitate.top_k keeps" in capsys.readouterr().err


def test_who_made_the_answers_does_not_make_another_training(config_of: ConfigOf, tmp_path: Path) -> None:
    train.run(config_of(tmp_path, "train.steps=1"))
    train.run(config_of(tmp_path, "train.steps=1", "imitate.jobs=3"))  # done already
    with pytest.raises(ConfigError, match=r"imitate\.filters \(was \[\], now \['cut'\]\)"):
        train.run(config_of(tmp_path, "train.steps=1", "imitate.filters=[cut]"))
