"""Prepare: bad utterances stop it or are counted, nothing is cut short, and a rerun does no work twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from toolkit.config import Config
from toolkit.data.cuts import example_of, load_cut_audio, read_cuts
from toolkit.errors import ConfigError, DataError
from toolkit.schema import PrepareConfig
from toolkit.stages import prepare


def write_audio(path: Path, seconds: float, level: float = 0.3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-level, level, round(seconds * 16000)).astype(np.float32)
    soundfile.write(path, samples, 16000)


def row(i: int, split: str = "train") -> dict[str, Any]:
    return {
        "id": f"u{i:02d}", "voice": "v", "split": split, "kind": "fact", "text": f"Number {i} here.",
        "duration": 0.5, "audio": f"audio/u{i:02d}.wav",
        "words": [["Number", 0.0, 0.1], [str(i), 0.1, 0.2], ["here.", 0.2, 0.5]],
    }  # fmt: skip


def corpus(root: Path, *changes: dict[str, Any], count: int = 6) -> Path:
    """Make utterances u00, u01, ...; the first ones are changed as asked."""
    rows = [{**row(i), **(changes[i] if i < len(changes) else {})} for i in range(count)]
    for each in rows:
        path = root / each["audio"]
        if not path.exists():
            write_audio(path, 0.5)
    (root / "utterances.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return root


def config(root: Path, **options: Any) -> Config:
    given = {"format": "jsonl", "corpus": str(root), "splits": {"train": "train"}}
    return Config(exp_dir="x", data_dir=str(root / "data"), prepare=PrepareConfig(**{**given, **options}))


def cuts_of(root: Path, split: str = "train") -> list[Any]:
    return read_cuts(root / "data" / split / "cuts.jsonl.gz")


def test_a_good_corpus(tmp_path: Path) -> None:
    counts = prepare.run(config(corpus(tmp_path)))["train"]
    assert counts == prepare.Counts(
        utterances=6, hours=0.0008, speakers=1, distinct_words=8, with_word_times=6, unusable_word_times=0
    )
    cuts = cuts_of(tmp_path)
    assert [cut.id for cut in cuts] == [f"u{i:02d}" for i in range(6)]
    assert cuts[3].supervisions[0].custom == {"kind": "fact"}
    example = example_of(cuts[3])
    assert (example.transcript, len(example.words)) == ("Number 3 here.", 3)
    assert Path(cuts[0].recording.sources[0].source).is_absolute()
    assert load_cut_audio(cuts[0], 16000).shape == (8000,)
    summary = json.loads((tmp_path / "data/train/summary.json").read_text())
    assert summary["counts"]["utterances"] == 6


def remove(path: Path) -> None:
    path.unlink()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def scribble(path: Path) -> None:
    path.write_bytes(b"no audio at all")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def silence(path: Path) -> None:
    write_audio(path, 0.5, level=0.0)


def lengthen(path: Path) -> None:
    write_audio(path, 0.7)


BAD_FILES = [
    (remove, "missing audio", "there is no audio file"),
    (shorten, "truncated audio", "is truncated"),
    (scribble, "unreadable audio", "cannot decode"),
    (empty, "empty audio", "is an empty file"),
    (silence, "silent audio", "is silent"),
    (lengthen, "wrong duration", r"lasts 0.70 s and the manifest says 0.50 s"),
]


@pytest.mark.parametrize(("spoil", "reason", "message"), BAD_FILES)
def test_bad_audio(tmp_path: Path, spoil: Callable[[Path], None], reason: str, message: str) -> None:
    spoil(corpus(tmp_path) / "audio/u02.wav")
    with pytest.raises(DataError, match=rf"utterance 'u02': .*{message}.*prepare.bad_audio=skip"):
        prepare.run(config(tmp_path))
    assert not (tmp_path / "data").exists()
    counts = prepare.run(config(tmp_path, bad_audio="skip"))["train"]
    assert (counts.utterances, counts.skipped) == (5, {reason: 1})
    assert "u02" not in [cut.id for cut in cuts_of(tmp_path)]


@pytest.mark.parametrize("text", ["", "  ", "..."])
def test_empty_transcript(tmp_path: Path, text: str) -> None:
    corpus(tmp_path, {"text": text})
    with pytest.raises(DataError, match=r"utterance 'u00' of .*u00.wav has an empty transcript"):
        prepare.run(config(tmp_path))
    assert prepare.run(config(tmp_path, bad_audio="skip"))["train"].skipped == {"empty transcript": 1}


def test_too_long_is_never_cut(tmp_path: Path) -> None:
    corpus(tmp_path, {"duration": None, "audio": "audio/long.wav"})
    write_audio(tmp_path / "audio/long.wav", 1.25)
    with pytest.raises(DataError, match=r"lasts 1.25 s, more than prepare.max_duration=1. .*prepare.too_long=skip"):
        prepare.run(config(tmp_path, max_duration=1.0, bad_audio="skip"))
    counts = prepare.run(config(tmp_path, max_duration=1.0, too_long="skip"))["train"]
    assert (counts.utterances, counts.skipped) == (5, {"too long": 1})
    prepare.run(config(tmp_path, max_duration=1.25))
    assert {cut.id: cut.duration for cut in cuts_of(tmp_path)}["u00"] == 1.25


def test_nothing_left(tmp_path: Path) -> None:
    corpus(tmp_path, count=1)
    remove(tmp_path / "audio/u00.wav")
    with pytest.raises(DataError, match=r"0 usable utterances of 1 leave nothing .*'missing audio': 1"):
        prepare.run(config(tmp_path, bad_audio="skip"))


def test_word_times_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    corpus(tmp_path, {"words": [["Number", 0.0, 0.1]]}, {"words": []})
    counts = prepare.run(config(tmp_path))["train"]
    assert (counts.with_word_times, counts.unusable_word_times) == (4, 1)
    assert [bool(example_of(cut).words) for cut in cuts_of(tmp_path)] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]


def test_case_changes_transcript_and_words_alike(tmp_path: Path) -> None:
    corpus(tmp_path, {"text": "WHAT I  SAID", "words": [["WHAT", 0, 0.1], ["I", 0.1, 0.2], ["SAID", 0.2, 0.5]]})
    prepare.run(config(tmp_path, case="sentence"))
    example = example_of(cuts_of(tmp_path)[0])
    assert example.transcript == "What I said."
    assert [word.text for word in example.words] == ["What", "I", "said."]


def test_segments_of_one_long_recording(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    write_audio(folder / "long.wav", 3.0)
    (folder / "wav.scp").write_text("r long.wav\n")
    (folder / "text").write_text("a ONE\nb TWO\n")
    (folder / "segments").write_text("a r 0.0 1.0\nb r 1.5 3.01\n")  # 10 ms past the end: rounding
    prepare.run(config(tmp_path, format="kaldi"))
    first, second = cuts_of(tmp_path)
    assert (second.start, second.duration, second.recording.duration) == (1.5, 1.5, 3.0)
    whole, rate = soundfile.read(folder / "long.wav", dtype="float32")
    np.testing.assert_array_equal(load_cut_audio(second, rate).numpy(), whole[24000:])
    assert first.supervisions[0].speaker == "a"
    (folder / "segments").write_text("a r 0.0 1.0\nb r 1.5 4.0\n")
    with pytest.raises(DataError, match=r"utterance 'b': .*long.wav is truncated: it holds 1.50 s from 1.50 s on"):
        prepare.run(config(tmp_path, format="kaldi"))


def test_two_channels_are_kept_in_the_manifest(tmp_path: Path) -> None:
    corpus(tmp_path)
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (8000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "audio/u00.wav", samples, 16000, subtype="FLOAT")
    prepare.run(config(tmp_path))
    cut = cuts_of(tmp_path)[0]
    assert cut.recording.sources[0].channels == [0, 1]
    np.testing.assert_allclose(load_cut_audio(cut, 16000).numpy(), samples.mean(axis=1), atol=1e-6)


def test_max_utterances_is_a_fixed_choice_whatever_the_order(tmp_path: Path) -> None:
    corpus(tmp_path, count=12)
    prepare.run(config(tmp_path, max_utterances=5))
    first = [cut.id for cut in cuts_of(tmp_path)]
    assert len(first) == 5
    assert first == sorted(first)
    assert first != [f"u{i:02d}" for i in range(5)]
    manifest = tmp_path / "utterances.jsonl"
    manifest.write_text("\n".join(reversed(manifest.read_text().split("\n"))))
    prepare.run(config(tmp_path, max_utterances=5))
    assert sorted(cut.id for cut in cuts_of(tmp_path)) == first


def test_skipped_utterances_are_made_up_for(tmp_path: Path) -> None:
    corpus(tmp_path, count=12)
    prepare.run(config(tmp_path, max_utterances=5))
    remove(Path(cuts_of(tmp_path)[0].recording.sources[0].source))
    (tmp_path / "data/train/summary.json").unlink()
    counts = prepare.run(config(tmp_path, max_utterances=5, bad_audio="skip"))["train"]
    assert (counts.utterances, counts.skipped) == (5, {"missing audio": 1})


def test_development_comes_out_of_train(tmp_path: Path) -> None:
    corpus(tmp_path, count=12)
    counts = prepare.run(config(tmp_path, development=4))
    train, dev = ({cut.id for cut in cuts_of(tmp_path, split)} for split in ("train", "dev"))
    assert (len(train), len(dev), len(train | dev)) == (8, 4, 12)
    assert {name: each.utterances for name, each in counts.items()} == {"train": 8, "dev": 4}
    prepare.run(config(tmp_path, development=4, max_utterances=3))
    small = {cut.id for cut in cuts_of(tmp_path, "dev")}
    assert len(small) == 3
    assert small < dev
    assert not small & {cut.id for cut in cuts_of(tmp_path, "train")}


def test_a_rerun_does_nothing_until_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus(tmp_path, count=12)
    options = config(tmp_path, development=2)
    before = prepare.run(options)
    calls = []
    real = prepare._prepare

    def spy(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(prepare, "_prepare", spy)
    assert prepare.run(options) == before
    assert not calls
    prepare.run(config(tmp_path, development=2, case="lower"))
    assert len(calls) == 1
    manifest = tmp_path / "utterances.jsonl"
    manifest.write_text(manifest.read_text().replace("Number 3 here", "Number 3 there"))
    prepare.run(config(tmp_path, development=2, case="lower"))
    assert len(calls) == 2
    (tmp_path / "data/dev/cuts.jsonl.gz").unlink()
    prepare.run(config(tmp_path, development=2, case="lower"))
    assert len(calls) == 3


def test_a_leftover_of_earlier_settings_is_mentioned(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    corpus(tmp_path, count=12)
    prepare.run(config(tmp_path, development=2))
    prepare.run(config(tmp_path))
    assert "dev is there from an earlier run" in " ".join(capfd.readouterr().err.split())


def test_an_interruption_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus(tmp_path)
    prepare.run(config(tmp_path))
    before = {path.name: path.read_bytes() for path in (tmp_path / "data/train").iterdir()}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "write_cuts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.run(config(tmp_path, case="lower"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "data/train").iterdir()} == before


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    corpus(tmp_path)
    prepare.run(config(tmp_path))
    before = {path.name: path.read_bytes() for path in (tmp_path / "data/train").iterdir()}
    own = f"{os.getpid()}.tmp"
    (tmp_path / f"data/train/cuts.jsonl.gz.{own}.{own}").symlink_to("/dev/full")  # the kernel's own full disk
    with pytest.raises(DataError, match="No space left on device"):
        prepare.run(config(tmp_path, case="lower"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "data/train").iterdir()} == before


def test_an_utterance_twice(tmp_path: Path) -> None:
    corpus(tmp_path, {"id": "u01"})
    with pytest.raises(DataError, match="utterance 'u01' occurs more than once"):
        prepare.run(config(tmp_path))


def test_a_split_that_is_not_there_is_found_out_first(tmp_path: Path) -> None:
    write_audio(tmp_path / "train/a.wav", 0.5)
    (tmp_path / "train/wav.scp").write_text("a a.wav\n")
    (tmp_path / "train/text").write_text("a HELLO\n")
    with pytest.raises(DataError, match=r"test has no wav.scp; such files are in: train"):
        prepare.run(config(tmp_path, format="kaldi", splits={"train": "train", "test": "test"}))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corpus": "???"}, "prepare.corpus is not set"),
        ({"corpus": ""}, "prepare.corpus is not set"),
        ({"format": "???"}, "prepare.format is not set"),
        ({"format": "jsonn"}, "unknown corpus format 'jsonn'. Did you mean 'jsonl'"),
        ({"too_long": "cut"}, "prepare.too_long=cut is not one of error, skip"),
        ({"bad_audio": "ignore"}, "prepare.bad_audio=ignore is not one of error, skip"),
        ({"case": "title"}, "prepare.case=title is not one of keep, lower, sentence"),
        ({"splits": {}}, "must name some of train, dev, test"),
        ({"splits": {"valid": "train"}}, "must name some of train, dev, test"),
        (
            {"development": 1, "splits": {"train": "train", "dev": "train"}},
            "prepare.splits needs train, and no dev",
        ),
        ({"development": 1, "splits": {"test": "train"}}, "prepare.splits needs train, and no dev"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare.run(config(corpus(tmp_path), **options))
