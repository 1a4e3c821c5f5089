"""The training step: token-true over micro-batches, bounded by time, and the same when interrupted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from toolkit.config import Config
from toolkit.data.features import FrameCache
from toolkit.errors import ConfigError, DataError
from toolkit.interfaces import LOSSES
from toolkit.stages import imitate, train
from toolkit.training.module import ImitationModule

ConfigOf = Callable[..., Config]


def weights(exp: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_file(exp / "checkpoint" / "trainable.safetensors")
    return state


def losses(exp: Path) -> list[float]:
    rows = [json.loads(line) for line in (exp / "train_log.jsonl").read_text().splitlines()]
    # A resumed run logs the steps since its last checkpoint again.
    return list({row["step"]: row["loss"] for row in rows if "loss" in row}.values())


def test_one_batch_of_four_is_four_micro_batches_of_one(config_of: ConfigOf, tmp_path: Path) -> None:
    for name, micro in (("whole", 0), ("split", 1)):
        train.run(config_of(tmp_path / name, f"train.micro_batch_size={micro}"))
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "split"), abs=1e-5)
    split = weights(tmp_path / "split")
    for name, tensor in weights(tmp_path / "whole").items():
        torch.testing.assert_close(tensor, split[name], atol=1e-5, rtol=1e-4)


def test_validation_goes_by_micro_batches_and_hears_the_same(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    step = ImitationModule.validation_step

    def watch(self: Any, batch: Any, index: int) -> None:
        sizes.append(len(batch.ids))
        step(self, batch, index)

    monkeypatch.setattr(ImitationModule, "validation_step", watch)
    monkeypatch.setattr(train, "VALIDATED", 8)
    seen = {}
    for micro in (0, 3, 40):
        sizes.clear()
        train.run(config_of(tmp_path / str(micro), f"train.micro_batch_size={micro}", "train.steps=2"))
        rows = [json.loads(line) for line in (tmp_path / str(micro) / "train_log.jsonl").read_text().splitlines()]
        (loss,) = [row["validation"]["loss"] for row in rows if "validation" in row]
        seen[micro] = (max(sizes), sum(sizes), loss)
    assert [seen[micro][0] for micro in (0, 3, 40)] == [8, 3, 8]
    assert seen[3][1:] == pytest.approx(seen[0][1:], abs=1e-5)
    assert seen[40] == seen[0]


def test_losses_of_spans_train_alike_in_micro_batches_of_one(config_of: ConfigOf, tmp_path: Path) -> None:
    loss = (
        "loss=weighted",
        "+loss.weights={hidden:1.0,embedding:0.5,contrastive:0.5}",
        "+loss.options={hidden:{positions:first},embedding:{per:span}}",
    )
    for name, micro in (("whole", 0), ("split", 1)):
        train.run(config_of(tmp_path / name, f"train.micro_batch_size={micro}", "train.speech_share=0.2", *loss))
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "split"), abs=1e-5)
    log = [json.loads(line) for line in (tmp_path / "whole/train_log.jsonl").read_text().splitlines()]
    parts = [row["parts"] for row in log if "parts" in row]
    assert all({"hidden", "embedding", "contrastive"} == set(part) for part in parts)
    assert max(part["contrastive"] for part in parts) > 0
    assert min(part["embedding"] for part in parts) > 0


@pytest.mark.parametrize("stops", [[3], [4], [9], [3, 5, 9]])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    stops: list[int], whole: Path, config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, "train.steps=11")
    step = ImitationModule.training_step
    for stop in stops:

        def interrupt(self: Any, batches: Any, index: int, stop: int = stop) -> None:
            if self.global_step == stop:
                raise KeyboardInterrupt
            step(self, batches, index)

        with monkeypatch.context() as patch:
            patch.setattr(ImitationModule, "training_step", interrupt)
            with pytest.raises(KeyboardInterrupt):
                train.run(config)
    train.run(config)
    assert losses(tmp_path) == pytest.approx(losses(whole), abs=1e-6)
    resumed = weights(tmp_path)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(tensor, resumed[name], atol=1e-6, rtol=1e-5)


@pytest.fixture(scope="module")
def whole(config_of: ConfigOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training of eleven steps."""
    folder = tmp_path_factory.mktemp("whole")
    train.run(config_of(folder, "train.steps=11"))
    return folder


def test_a_trained_folder_refuses_other_settings_and_names_them(whole: Path, config_of: ConfigOf) -> None:
    train.run(config_of(whole, "train.steps=11"))  # the same settings: done already
    with pytest.raises(ConfigError, match=r"adapter\.factor \(was 5, now 3\).*train\.steps \(was 11, now 6\)"):
        train.run(config_of(whole, "adapter.factor=3"))


def test_a_batch_that_is_not_finite_stops_and_changes_nothing(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrameCache, "__getitem__", lambda self, name: torch.full((9, 32), torch.inf))
    with pytest.raises(DataError, match=r"not finite.*utt"):
        train.run(config_of(tmp_path, "encode.verify=0"))
    assert not (tmp_path / "checkpoint" / "done").exists()


def test_a_time_limit_ends_the_training_and_its_schedule(config_of: ConfigOf, tmp_path: Path) -> None:
    limits = ("train.steps=100000", "train.max_minutes=0.02")
    train.run(config_of(tmp_path, *limits))
    rows = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert rows[-1]["seconds"] >= 1.2
    *before, last = [row for row in rows if "loss" in row]
    assert last["seconds"] >= 1.2
    assert all(row["seconds"] <= 1.2 for row in before)  # no step is begun when the time is up
    assert (tmp_path / "checkpoint" / "done").exists()


def test_training_without_answers_says_which_stage_to_run(config_of: ConfigOf, tmp_path: Path) -> None:
    config = config_of(tmp_path, "imitate.max_new_tokens=7")
    with pytest.raises(DataError, match="run the imitate stage"):
        train.run(config)


def test_answers_that_were_cut_are_kept_as_cut(config_of: ConfigOf, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    llm = imitate.text_llm(config)
    examples = train.training_examples(config, llm, LOSSES.build({"name": "cross_entropy"}))
    for example in examples:
        if example.response != example.transcript:
            length = len(llm.tokenizer.encode(example.response))
            assert example.response_complete or length >= 4, example


def test_a_training_is_known_again_after_its_parts_have_gained_options(config_of: ConfigOf, tmp_path: Path) -> None:
    train.run(config_of(tmp_path, "train.steps=1"))
    path = tmp_path / "checkpoint/config.yaml"
    saved = yaml.safe_load(path.read_text())
    del saved["adapter"]["norm"], saved["interleaver"]["ratio"], saved["encoder"]["taps"]
    path.write_text(yaml.safe_dump(saved))
    train.run(config_of(tmp_path, "train.steps=1", "interleaver.ratio=0.5"))
    with pytest.raises(ConfigError, match=r"other settings: interleaver\.ratio \(was 0\.5, now 0\.25\)"):
        train.run(config_of(tmp_path, "train.steps=1", "interleaver.ratio=0.25"))


def test_an_interleaver_that_is_never_asked_is_told_of(
    config_of: ConfigOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {}
    for share in ("1", "0.5"):
        train.run(config_of(tmp_path / share, "train.steps=1", "interleaver=spans", f"train.speech_share={share}"))
        told[share] = "interleaver=spans is never asked" in capsys.readouterr().err
    assert told == {"1": True, "0.5": False}
