"""The training step: token-true over micro-batches, bounded by time, and the same when interrupted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from toolkit.config import Config, compose_config
from toolkit.errors import DataError
from toolkit.stages import encode, imitate, prepare, train

TEXTS = ["The quick brown fox jumps.", "What is the capital of France?", "She sells sea shells.", "My aunt speaks."]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve noises with transcripts and word times, in the layout of egs/mini."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(12):
        text, name, seconds = TEXTS[i % 4], f"utt{i:02d}", 1.0 + 0.1 * i
        (folder / "audio" / "v").mkdir(parents=True, exist_ok=True)
        noise = 0.1 * rng.standard_normal(int(16000 * seconds))
        soundfile.write(folder / "audio" / "v" / f"{name}.opus", noise, 16000, format="OGG", subtype="OPUS")
        words = text.split()
        times = [
            [w, round(k * seconds / len(words), 3), round((k + 1) * seconds / len(words), 3)]
            for k, w in enumerate(words)
        ]
        split = "dev" if i >= 10 else "train"
        rows.append(
            {
                "id": name,
                "voice": "v",
                "split": split,
                "kind": "statement",
                "text": text,
                "duration": seconds,
                "words": times,
            }
        )
    (folder / "utterances.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def config_of(corpus: Path, llm: Path, whisper: Path, data: Path, exp: Path, *more: str) -> Config:
    return compose_config([
        "recipes=mtbi", f"exp_dir={exp}", f"data_dir={data}",
        f"encoder.model={whisper}", "encoder.window=true_length", f"decoder.model={llm}", "adapter=stack",
        "adapter.hidden_dim=16", "prepare.format=jsonl", f"prepare.corpus={corpus}",
        "prepare.splits={train:train,dev:dev}", "imitate.max_new_tokens=5", "train.steps=6", "train.batch_size=4",
        "train.validate_every=2", "train.speech_share=0.5", *more,
    ])  # fmt: skip


@pytest.fixture(scope="module")
def data(corpus: Path, tiny_llm: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    config = config_of(corpus, tiny_llm, tiny_whisper, folder, folder / "exp")
    prepare.run(config)
    encode.run(config)
    imitate.run(config)
    return folder


def weights(exp: Path) -> dict[str, torch.Tensor]:
    return load_file(exp / "checkpoint" / "trainable.safetensors")


def losses(exp: Path) -> list[float]:
    rows = [json.loads(line) for line in (exp / "train_log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_one_batch_of_four_is_four_micro_batches_of_one(
    corpus: Path, data: Path, tiny_llm: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    for name, micro in (("whole", 0), ("split", 1)):
        train.run(config_of(corpus, tiny_llm, tiny_whisper, data, tmp_path / name, f"train.micro_batch_size={micro}"))
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "split"), abs=1e-5)
    split = weights(tmp_path / "split")
    for name, tensor in weights(tmp_path / "whole").items():
        torch.testing.assert_close(tensor, split[name], atol=1e-5, rtol=1e-4)


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    corpus: Path, data: Path, tiny_llm: Path, tiny_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.run(config_of(corpus, tiny_llm, tiny_whisper, data, tmp_path / "whole"))
    config = config_of(corpus, tiny_llm, tiny_whisper, data, tmp_path / "cut")
    step = train.ImitationModule.training_step

    def interrupt(self: Any, batches: Any, index: int) -> None:
        if self.global_step == 4:
            raise KeyboardInterrupt
        step(self, batches, index)

    with monkeypatch.context() as patch:
        patch.setattr(train.ImitationModule, "training_step", interrupt)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train.run(config)
    train.run(config)
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), abs=1e-6)
    cut = weights(tmp_path / "cut")
    for name, tensor in weights(tmp_path / "whole").items():
        torch.testing.assert_close(tensor, cut[name], atol=1e-6, rtol=1e-5)


def test_a_time_limit_ends_the_training_and_its_schedule(
    corpus: Path, data: Path, tiny_llm: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    limits = ("train.steps=100000", "train.max_minutes=0.02")
    train.run(config_of(corpus, tiny_llm, tiny_whisper, data, tmp_path, *limits))
    rows = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert 1.2 <= rows[-1]["seconds"] < 10
    assert (tmp_path / "checkpoint" / "done").exists()


def test_training_without_answers_says_which_stage_to_run(
    corpus: Path, data: Path, tiny_llm: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    config = config_of(corpus, tiny_llm, tiny_whisper, data, tmp_path, "imitate.max_new_tokens=7")
    with pytest.raises(DataError, match="run the imitate stage"):
        train.run(config)


def test_answers_that_were_cut_are_kept_as_cut(corpus: Path, data: Path, tiny_llm: Path, tiny_whisper: Path) -> None:
    config = config_of(corpus, tiny_llm, tiny_whisper, data, data / "x")
    llm = imitate.text_llm(config)
    examples = train.training_examples(config, llm, train.LOSSES.build({"name": "cross_entropy"}))
    for example in examples:
        if example.response != example.transcript:
            length = len(llm.tokenizer.encode(example.response))
            assert example.response_complete or length >= 4, example
