"""A warm start on tones with word times says when each tone sounds in utterances that have none."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from toolkit.config import Config, compose_config, save_config
from toolkit.data.batches import Collator
from toolkit.data.cuts import example_of, make_cut, read_cuts, write_cuts
from toolkit.data.tokenization import ChatTokenizer
from toolkit.data.views import Shares, Views
from toolkit.errors import CheckpointError, ConfigError
from toolkit.interfaces import INTERLEAVERS, LOSSES
from toolkit.models.build import attach_tokens, build_model
from toolkit.schema import AlignConfig
from toolkit.stages import align
from toolkit.stages.train import transcript_tokens
from toolkit.training.checkpoint import WEIGHTS, save_checkpoint
from toolkit.types import Example, Padded, Word

RATE = 16000
TONES = {"she": 300, "sells": 900, "sea": 1800, "shells.": 3000}
"""word -> Hz"""
Times = list[tuple[float, float]]


def tones(seed: int) -> tuple[str, np.ndarray, Times]:
    """Make an utterance of 2 to 4 tones between silences: its transcript, its samples and its times."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    words, samples, times, now = rng.sample(list(TONES), rng.randint(2, 4)), [], [], 0
    for word in words:
        silent, long = (int(RATE * rng.uniform(*span)) for span in ((0.15, 0.3), (0.3, 0.5)))
        samples += [np.zeros(silent), 0.3 * np.sin(2 * np.pi * TONES[word] * np.arange(long) / RATE)]
        times.append(((now + silent) / RATE, (now + silent + long) / RATE))
        now += silent + long
    audio = np.concatenate([*samples, np.zeros(RATE // 5)])
    return " ".join(words), audio + 1e-3 * noise.standard_normal(len(audio)), times


def prepared(root: Path, seeds: range) -> tuple[Path, dict[str, Times]]:
    """Write a split of utterances that have transcripts and no word times; return what their times are."""
    root.mkdir(parents=True, exist_ok=True)
    cuts, truth = [], {}
    for seed in seeds:
        text, audio, truth[f"u{seed}"] = tones(seed)
        path = root / f"u{seed}.wav"
        soundfile.write(path, audio, RATE)
        cuts.append(make_cut(f"u{seed}", path, text, sampling_rate=RATE, num_samples=len(audio)))
    path = root / "data" / "train" / "cuts.jsonl.gz"
    write_cuts(path, cuts)
    return path, truth


@pytest.fixture(scope="module")
def trained(tiny_llm: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Train the adapter, and save it as a warm start is saved; return its configuration."""
    folder = tmp_path_factory.mktemp("warm")
    small = {"hidden_dim": 32, "heads": 2, "layers": 1, "context": 1, "dropout": 0, "time_masks": 0}
    config = compose_config(
        ["recipes=warm_start", f"exp_dir={folder / 'exp'}", f"encoder.model={tiny_whisper}",
         "encoder.window=true_length", f"decoder.model={tiny_llm}", *(f"adapter.{k}={v}" for k, v in small.items())]
    )  # fmt: skip
    heard = [tones(seed) for seed in range(24)]
    frames, examples = {}, []
    model = build_model(config.encoder, config.adapter, config.decoder, config.cut, seed=1)
    for number, (text, audio, times) in enumerate(heard):
        with torch.no_grad():
            [frames[str(number)]] = model.encoder(Padded.of([torch.tensor(audio, dtype=torch.float32)])).unpad()
        words = tuple(Word(word, *when) for word, when in zip(text.split(), times, strict=True))
        examples.append(Example(str(number), len(audio) / RATE, text, words))
    tokenizer = ChatTokenizer(str(tiny_llm))
    attach_tokens(model, transcript_tokens(examples, tokenizer))
    views, loss = Views(INTERLEAVERS.build(config.interleaver), Shares(1.0), seed=1), LOSSES.build(config.loss)
    batch = Collator(tokenizer, views, frames.__getitem__, teacher=False)(examples, 0, 0)
    optimiser = torch.optim.Adam(model.adapter.parameters(), 3e-3)
    for _ in range(200):
        output = loss(model(batch, loss.needs))
        optimiser.zero_grad()
        (output.total / output.count).backward()
        optimiser.step()
    save_checkpoint(model, folder / "exp" / "checkpoint")
    save_config(config, folder / "exp" / "checkpoint" / "config.yaml")
    return config


def run(trained: Config, root: Path, folder: Path | None = None) -> align.Counts:
    options = AlignConfig(source="ctc", path=str(folder or Path(trained.exp_dir) / "checkpoint"))
    config = replace(trained, exp_dir="x", data_dir=str(root / "data"), align=options)
    return align.run(config)["train"]


def test_words_are_found_where_they_are_said(trained: Config, tmp_path: Path) -> None:
    path, truth = prepared(tmp_path, range(100, 120))
    assert run(trained, tmp_path) == align.Counts(aligned=20)
    for cut in read_cuts(path):
        example = example_of(cut)
        assert " ".join(word.text for word in example.words) == example.transcript
        assert len(example.words) == len(truth[cut.id])
        # What an interleaver needs: the middle of each word is in it, and the cut between two falls into the pause.
        for word, (start, end) in zip(example.words, truth[cut.id], strict=True):
            assert start < (word.start + word.end) / 2 < end
        pauses = [(a[1], b[0]) for a, b in pairwise(truth[cut.id])]
        for (left, right), (end, start) in zip(pairwise(example.words), pauses, strict=True):
            assert end - 0.1 < (left.end + right.start) / 2 < start + 0.1


def test_what_cannot_be_heard_stays_plain_speech_with_the_reason(trained: Config, tmp_path: Path) -> None:
    path, _ = prepared(tmp_path, range(200, 206))
    wrong = {
        "u200": "shells. sea sells she shells. sea sells she", "u201": "she sells a zebra",
        "u202": "she sells " * 40, "u203": "shells. shells.",
    }  # fmt: skip
    cuts = read_cuts(path)
    for cut in cuts:
        cut.supervisions[0].text = wrong.get(cut.id, cut.supervisions[0].text).strip()
    write_cuts(path, cuts)
    (tmp_path / "u204.wav").unlink()
    assert run(trained, tmp_path) == align.Counts(
        aligned=1,
        plain={
            "missing audio": 1,
            "where the adapter does not hear the transcript": 3,
            "with a word whose tokens the adapter has never met": 1,
        },
    )


def test_a_rerun_keeps_the_times_and_a_better_checkpoint_replaces_them(trained: Config, tmp_path: Path) -> None:
    path, _ = prepared(tmp_path, range(300, 303))
    run(trained, tmp_path)
    before, [mark] = path.read_bytes(), {cut.supervisions[0].custom["word_times"] for cut in read_cuts(path)}
    assert run(trained, tmp_path) == align.Counts(aligned=3)
    assert path.read_bytes() == before
    other = tmp_path / "other"
    model = build_model(trained.encoder, trained.adapter, trained.decoder, trained.cut, seed=2)
    attach_tokens(model, torch.tensor(ChatTokenizer(trained.decoder["model"]).transcript(" ".join(TONES))))
    save_checkpoint(model, other)  # untrained: it hears nothing, and its times are no good
    save_config(trained, other / "config.yaml")
    run(trained, tmp_path, other)
    assert mark not in {cut.supervisions[0].custom["word_times"] for cut in read_cuts(path)}


def test_a_checkpoint_that_cannot_align_is_refused_before_anything_is_loaded(trained: Config, tmp_path: Path) -> None:
    prepared(tmp_path, range(400, 401))
    with pytest.raises(ConfigError, match=r"checkpoint folder .* has no config.yaml"):
        run(trained, tmp_path, tmp_path / "nothing")
    stack = tmp_path / "stack"
    stack.mkdir()
    save_config(replace(trained, adapter={"name": "stack"}), stack / "config.yaml")
    with pytest.raises(ConfigError, match=r"has no trainable"):
        run(trained, tmp_path, stack)
    (stack / WEIGHTS).write_bytes(b"not read")
    with pytest.raises(ConfigError, match=r"needs an adapter that emits tokens .* 'stack'"):
        run(trained, tmp_path, stack)
    with pytest.raises(ConfigError, match=r"align\.path is not set"):
        align.run(replace(trained, data_dir=str(tmp_path / "data"), align=AlignConfig(source="ctc")))


def test_a_checkpoint_of_another_decoder_is_refused(trained: Config, tmp_path: Path, tiny_llm: Path) -> None:
    from toolkit.testing.tiny import tiny_llm as write

    prepared(tmp_path, range(500, 501))
    other = replace(trained, decoder={**trained.decoder, "model": str(write(tmp_path / "llm", layers=3))})
    with pytest.raises(CheckpointError, match="was trained with another decoder"):
        run(other, tmp_path)
