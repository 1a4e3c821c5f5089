"""Word times by Whisper's cross-attention: a random Whisper keeps the contract, the packaged one finds the words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from toolkit.assets.locate import locate
from toolkit.config import Config
from toolkit.data.cuts import example_of, make_cut, read_cuts, write_cuts
from toolkit.data.forced_alignment import Found
from toolkit.errors import AssetError, ConfigError, UnknownNameError
from toolkit.schema import AlignConfig, DecodeConfig, EncodeConfig
from toolkit.stages import align
from toolkit.stages.attention_times import WhisperTimes
from toolkit.types import Word

RATE = 16000
MINI = Path(__file__).resolve().parents[2] / "egs/mini/corpus"
TEXTS = ["She sells sea shells.", "“Hello”, world!", "Naïve café - yes", "ONE TWO", "so"]


def whisper(folder: Path, *, languages: tuple[str, ...] = (), scale: float = 0.3, heads: Any = None) -> Path:
    """Write a random Whisper of 3 decoder layers with a tokenizer of single bytes; the larger `scale`, the surer"""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperTokenizerFast

    letters = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    said = [f"<|{code}|>" for code in languages]
    special = ["<|startoftranscript|>", *said, "<|translate|>", "<|transcribe|>", "<|notimestamps|>"]
    tokenizer = WhisperTokenizerFast(vocab=letters, merges=[], extra_special_tokens=special)
    tokenizer.save_pretrained(folder)
    end = tokenizer.eos_token_id
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=16, d_model=32, encoder_layers=1, decoder_layers=3,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        max_target_positions=64, pad_token_id=end, bos_token_id=end, eos_token_id=end,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"), init_std=0.1,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model: Any = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        model.model.decoder.layer_norm.weight.mul_(scale)
    model.generation_config._from_model_config = False  # or transformers makes it anew, without what follows
    if languages:
        model.generation_config.is_multilingual = True
        model.generation_config.lang_to_id = {each: tokenizer.convert_tokens_to_ids(each) for each in said}
    if heads:
        model.generation_config.alignment_heads = heads
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def random_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper(tmp_path_factory.mktemp("models") / "whisper")


def prepared(root: Path, texts: list[str], split: str = "train") -> Path:
    """Write utterances of noise, of 1.2 s and more, cut out of the middle of a recording."""
    samples = np.random.default_rng(0).normal(0, 0.1, 6 * RATE).astype(np.float32)
    soundfile.write(root / "noise.wav", samples, RATE)
    cuts = [
        make_cut(
            f"u{i}", root / "noise.wav", text, sampling_rate=RATE, num_samples=len(samples), recording="r",
            start=0.5, duration=1.2 + 0.13 * i,
        )
        for i, text in enumerate(texts)
    ]  # fmt: skip
    path = root / "data" / split / "cuts.jsonl.gz"
    write_cuts(path, cuts)
    return path


def config_for(root: Path, model: Path | str, *, batch_size: int = 2, language: str = "en") -> Config:
    return Config(
        exp_dir="x", data_dir=str(root / "data"), encoder={"name": "whisper", "model": str(model)},
        align=AlignConfig(source="whisper"), encode=EncodeConfig(batch_size=batch_size),
        decode=DecodeConfig(language=language),
    )  # fmt: skip


def times(path: Path) -> dict[str, tuple[Word, ...]]:
    return {cut.id: example_of(cut).words for cut in read_cuts(path)}


def test_every_word_has_a_time_inside_the_utterance_and_in_order(random_whisper: Path, tmp_path: Path) -> None:
    path = prepared(tmp_path, TEXTS)
    assert align.run(config_for(tmp_path, random_whisper)) == {"train": align.Counts(aligned=5)}
    for cut in read_cuts(path):
        words = example_of(cut).words
        assert " ".join(word.text for word in words) == cut.supervisions[0].text
        edges = [edge for word in words for edge in (word.start, word.end)]
        assert edges == sorted(edges)
        assert all(word.start < word.end for word in words)
        assert edges[0] >= 0
        assert edges[-1] <= cut.duration


def test_neighbours_change_nothing(random_whisper: Path, tmp_path: Path) -> None:
    cuts = read_cuts(prepared(tmp_path, TEXTS))

    def found(size: int) -> dict[str, Found]:
        return {each.id: each for each in WhisperTimes(config_for(tmp_path, random_whisper, batch_size=size))(cuts)}

    assert found(5) == found(1)


def test_what_is_written_as_a_pause_is_not_said(random_whisper: Path, tmp_path: Path) -> None:
    [found] = WhisperTimes(config_for(tmp_path, random_whisper))(read_cuts(prepared(tmp_path, ["“ab”, cd!"])))
    first, second = found.words
    assert first.start >= 0.02  # the space and the three bytes of the opening mark have a frame each, at least
    assert second.start - first.end >= 4 * 0.02 - 1e-9  # the closing mark and the comma
    assert second.end <= 1.2 - 0.02 + 1e-9


def test_an_interrupted_run_goes_on(random_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = prepared(tmp_path, TEXTS)
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = prepared(whole, TEXTS)
    align.run(config_for(whole, random_whisper))
    run = WhisperTimes._align
    left = [2]

    def stopping(self: WhisperTimes, cuts: list[Any]) -> Iterator[Found]:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return run(self, cuts)

    monkeypatch.setattr(WhisperTimes, "_align", stopping)
    with pytest.raises(KeyboardInterrupt):
        align.run(config_for(tmp_path, random_whisper))
    assert times(path) == dict.fromkeys(times(path), ())
    left[0] = 1  # four of five are known; the last is one batch
    assert align.run(config_for(tmp_path, random_whisper))["train"].aligned == 5
    assert left == [0]
    assert times(path) == times(expected)


def test_a_rerun_keeps_the_times_and_another_whisper_replaces_them(random_whisper: Path, tmp_path: Path) -> None:
    path = prepared(tmp_path, TEXTS)
    align.run(config_for(tmp_path, random_whisper))
    before = path.read_bytes()
    align.run(config_for(tmp_path, random_whisper))
    assert path.read_bytes() == before
    other = whisper(tmp_path / "other", heads=[[0, 1]])
    config = config_for(tmp_path, random_whisper)
    align.run(replace(config, align=replace(config.align, model=str(other))))
    assert path.read_bytes() != before
    assert {cut.supervisions[0].custom["word_times"][:8] for cut in read_cuts(path)} == {"whisper "}


def test_what_cannot_be_aligned_stays_plain_speech_with_the_reason(random_whisper: Path, tmp_path: Path) -> None:
    path = prepared(tmp_path, ["fine", "a" * 70, "-", "abc def ghi " * 4, "gone", "long"])
    cuts = read_cuts(path)
    cuts[3].duration = cuts[3].supervisions[0].duration = 0.3
    cuts[4].recording.sources[0].source = str(tmp_path / "nowhere.wav")
    cuts[5].duration = cuts[5].supervisions[0].duration = 31.0
    write_cuts(path, cuts)
    assert align.run(config_for(tmp_path, random_whisper))["train"] == align.Counts(
        aligned=1,
        plain={
            "longer than Whisper takes": 1,
            "missing audio": 1,
            "with more tokens than Whisper writes": 1,
            "with more tokens than frames": 1,
            "without words": 1,
        },
    )


def test_a_whisper_that_would_write_something_else_does_not_align(tmp_path: Path) -> None:
    prepared(tmp_path, TEXTS)
    model = whisper(tmp_path / "sure", scale=50)
    counts = align.run(config_for(tmp_path, model))["train"]
    assert counts == align.Counts(plain={"where Whisper does not hear the transcript": 5})


def test_the_heads_that_the_model_names_are_read(tmp_path: Path) -> None:
    cuts = read_cuts(prepared(tmp_path, TEXTS))

    def found(name: str, heads: Any) -> list[Found]:
        return list(WhisperTimes(config_for(tmp_path, whisper(tmp_path / name, heads=heads)))(cuts))

    upper = found("named", [[1, 0], [1, 1], [2, 0], [2, 1]])
    assert found("none", None) == upper  # the upper half of three layers, as nobody names any
    assert found("one", [[0, 1]]) != upper


def test_a_whisper_of_many_languages_is_told_which(tmp_path: Path) -> None:
    model = whisper(tmp_path / "many", languages=("en", "de"))
    cuts = read_cuts(prepared(tmp_path, TEXTS))
    aligner = WhisperTimes(config_for(tmp_path, model, language="German"))
    # 256 letters and the end, then: start, en, de, translate, transcribe, no timestamps.
    assert aligner.opening == [257, 259, 261, 262]
    assert all(each.words for each in aligner(cuts))
    for language in ("", "fr"):
        with pytest.raises(ConfigError, match=r"must be told which it hears: decode\.language="):
            list(WhisperTimes(config_for(tmp_path, model, language=language))(cuts))


def test_settings_that_make_no_sense_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    prepared(tmp_path, TEXTS)
    config = config_for(tmp_path, "")
    with pytest.raises(ConfigError, match=r"needs a Whisper, and encoder=ssl names none: .* align\.model"):
        align.run(replace(config, encoder={"name": "ssl", "model": "somewhere"}))
    with pytest.raises(ConfigError, match="needs a Whisper, and encoder=whisper names none"):
        align.run(config)
    with pytest.raises(AssetError, match="no such folder"):
        align.run(config_for(tmp_path, "./nowhere"))
    with pytest.raises(UnknownNameError, match="language of Whisper"):
        align.run(config_for(tmp_path, tmp_path, language="Klingon"))


def packaged() -> bool:
    try:
        return bool(locate("asset:whisper-tiny.en"))
    except AssetError:
        return False


@pytest.mark.skipif(not packaged(), reason="toolkit assets fetch tiny")
def test_the_packaged_whisper_finds_the_words_of_the_mini_corpus(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (MINI / "utterances.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["split"] == "test"][::20]
    cuts = [
        make_cut(
            row["id"], MINI / f"audio/{row['voice']}/{row['id']}.opus", row["text"], sampling_rate=RATE,
            num_samples=soundfile.info(MINI / f"audio/{row['voice']}/{row['id']}.opus").frames,
        )
        for row in rows
    ]  # fmt: skip
    wrong = make_cut(
        "wrong", MINI / f"audio/{rows[0]['voice']}/{rows[0]['id']}.opus", rows[1]["text"], sampling_rate=RATE,
        num_samples=cuts[0].recording.num_samples,
    )  # fmt: skip
    found = {each.id: each for each in WhisperTimes(config_for(tmp_path, "asset:whisper-tiny.en"))([*cuts, wrong])}
    assert found.pop("wrong").reason == "where Whisper does not hear the transcript"
    errors = [
        abs(edge - true)
        for row in rows
        for word, (_, *truth) in zip(found[row["id"]].words, row["words"], strict=True)
        for edge, true in zip((word.start, word.end), truth, strict=True)
    ]
    assert np.median(errors) < 0.09  # spread evenly over the letters, words are 0.107 off
