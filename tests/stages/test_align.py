"""Align: times from every source, plain speech counted by reason, and an interrupted run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from toolkit.config import Config
from toolkit.data.cuts import example_of, make_cut, read_cuts, write_cuts
from toolkit.data.forced_alignment import Found
from toolkit.errors import ConfigError, DataError, UnknownNameError
from toolkit.schema import AlignConfig
from toolkit.stages import align
from toolkit.types import Word

TIMES = (Word("hello", 0.0, 0.4), Word("world", 0.4, 0.9))


def prepared(root: Path, count: int = 3, words: tuple[Word, ...] = (), split: str = "train") -> Path:
    """Write cuts u0, u1, ... that start in mid-recording, of one second of noise each."""
    noise = np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32)
    soundfile.write(root / "noise.wav", noise, 16000)
    cuts = [
        make_cut(
            f"u{i}", root / "noise.wav", "Hello world.", sampling_rate=16000, num_samples=48000,
            recording="r", start=1.5, duration=1.0, words=words,
        )
        for i in range(count)
    ]  # fmt: skip
    path = root / "data" / split / "cuts.jsonl.gz"
    write_cuts(path, cuts)
    return path


def run(root: Path, source: str, path: Path | str = "", jobs: int = 1) -> dict[str, align.Counts]:
    options = AlignConfig(source=source, path=str(path), jobs=jobs)
    return align.run(Config(exp_dir="x", data_dir=str(root / "data"), align=options))


def spans(path: Path) -> list[list[tuple[str, float, float]]]:
    return [[(w.text, w.start, w.end) for w in example_of(cut).words] for cut in read_cuts(path)]


ALIGNED = [("Hello", 0.0, 0.4), ("world.", 0.4, 0.9)]


def test_given(tmp_path: Path) -> None:
    path = prepared(tmp_path, words=TIMES)
    before = path.read_bytes()
    assert run(tmp_path, "given") == {"train": align.Counts(aligned=3)}
    assert path.read_bytes() == before


def test_given_and_not_given(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    bad = make_cut("bad", tmp_path / "noise.wav", "Hello.", sampling_rate=16000, num_samples=48000, words=TIMES)
    good = make_cut("good", tmp_path / "noise.wav", "Hello world", sampling_rate=16000, num_samples=48000, words=TIMES)
    write_cuts(path, [*read_cuts(path)[:1], bad, good])
    assert run(tmp_path, "given")["train"] == align.Counts(aligned=1, plain={"without word times in the corpus": 2})
    assert [bool(each) for each in spans(path)] == [False, False, True]


def test_ctm(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    ctm = tmp_path / "a.ctm"
    ctm.write_text("u0 1 0.0 0.4 HELLO\nu0 1 0.4 0.5 WORLD\nu1 1 0.0 0.4 HELLO\n")
    counts = run(tmp_path, "ctm", ctm)["train"]
    assert counts.aligned == 1
    assert counts.plain == {
        "not in the CTM file": 1,
        "whose given words or times do not fit the transcript": 1,
    }
    assert spans(path) == [ALIGNED, [], []]
    [item, _] = read_cuts(path)[0].supervisions[0].alignment["word"]
    assert item.start == 1.5  # lhotse's clock is the recording's


def test_a_better_ctm_is_read_again(tmp_path: Path) -> None:
    path = prepared(tmp_path, count=2)
    ctm = tmp_path / "a.ctm"
    line = "{0} 1 0.0 0.4 hello\n{0} 1 0.4 0.5 world\n"
    ctm.write_text(line.format("u0"))
    assert run(tmp_path, "ctm", ctm)["train"].aligned == 1
    ctm.write_text(line.format("u0") + line.format("u1"))
    assert run(tmp_path, "ctm", ctm)["train"].aligned == 2
    assert spans(path) == [ALIGNED, ALIGNED]


def test_textgrids_wherever_they_are_in_the_folder(tmp_path: Path) -> None:
    path = prepared(tmp_path, count=2)
    grid = tmp_path / "grids" / "speaker" / "u1.TextGrid"
    grid.parent.mkdir(parents=True)
    grid.write_text(
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n1\n<exists>\n1\n'
        '"IntervalTier"\n"words"\n0\n1\n3\n'
        '0\n0.4\n"hello"\n0.4\n0.9\n"world"\n0.9\n1\n""\n'
    )
    counts = run(tmp_path, "textgrid", tmp_path / "grids")["train"]
    assert counts == align.Counts(aligned=1, plain={"without a TextGrid": 1})
    assert spans(path) == [[], ALIGNED]


def test_files_of_another_corpus(tmp_path: Path) -> None:
    prepared(tmp_path)
    (tmp_path / "a.ctm").write_text("x 1 0 1 hello\n")
    with pytest.raises(DataError, match=r"align.source=ctm .*a.ctm gives no utterance word times: .*not in the CTM"):
        run(tmp_path, "ctm", tmp_path / "a.ctm")
    with pytest.raises(DataError, match="there is no TextGrid in"):
        run(tmp_path, "textgrid", tmp_path)


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing to align .*run the prepare stage first"):
        run(tmp_path, "given")
    prepared(tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown align.source 'textgrids'. Did you mean 'textgrid'"):
        run(tmp_path, "textgrids")
    with pytest.raises(ConfigError, match=r"align.path is not set"):
        run(tmp_path, "ctm")


@pytest.mark.parametrize("jobs", [1, 2])
def test_noise_stays_plain_speech_and_is_counted(tmp_path: Path, jobs: int) -> None:
    path = prepared(tmp_path)
    counts = run(tmp_path, "pocketsphinx", jobs=jobs)["train"]
    assert counts == align.Counts(plain={"where pocketsphinx does not hear the transcript": 3})
    assert spans(path) == [[], [], []]
    assert sorted(each.name for each in path.parent.iterdir()) == ["align.json", "cuts.jsonl.gz"]


class Recogniser:
    """Stands in for pocketsphinx: aligns anything, and fails when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.fail_after = 1000
        monkeypatch.setattr(align, "_pocketsphinx", self)

    def __call__(self, cuts: list[Any], jobs: int) -> Iterator[Found]:
        for cut in cuts:
            if len(self.asked) == self.fail_after:
                raise KeyboardInterrupt
            self.asked.append(cut.id)
            yield Found(cut.id, TIMES)


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = prepared(tmp_path, count=5)
    before = path.read_bytes()
    recogniser = Recogniser(monkeypatch)
    recogniser.fail_after = 3
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "pocketsphinx")
    assert path.read_bytes() == before
    partial = path.parent / "align.partial.jsonl"
    with partial.open("a") as file:
        file.write('{"id": "u3", "wor')  # as a process killed in mid-write leaves it
    recogniser.fail_after = 1000
    assert run(tmp_path, "pocketsphinx")["train"].aligned == 5
    assert recogniser.asked == ["u0", "u1", "u2", "u3", "u4"]
    assert spans(path) == [ALIGNED] * 5
    assert not partial.exists()


def test_partial_results_of_other_cuts_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = prepared(tmp_path, count=3)
    recogniser = Recogniser(monkeypatch)
    recogniser.fail_after = 2
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "pocketsphinx")
    write_cuts(path, read_cuts(path)[1:])
    recogniser.fail_after = 1000
    assert run(tmp_path, "pocketsphinx")["train"].aligned == 2
    assert recogniser.asked == ["u0", "u1", "u1", "u2"]


def test_a_rerun_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = prepared(tmp_path)
    recogniser = Recogniser(monkeypatch)
    counts = run(tmp_path, "pocketsphinx")
    content = path.read_bytes()
    assert run(tmp_path, "pocketsphinx") == counts
    assert len(recogniser.asked) == 3
    assert path.read_bytes() == content
    assert json.loads((path.parent / "align.json").read_text())["counts"] == {"aligned": 3, "plain": {}}


def test_only_cuts_without_times_are_aligned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = prepared(tmp_path, words=TIMES)
    extra = prepared(tmp_path, count=4, split="dev")
    write_cuts(path, [*read_cuts(path), *read_cuts(extra)[3:]])
    recogniser = Recogniser(monkeypatch)
    counts = run(tmp_path, "pocketsphinx")
    assert {split: each.aligned for split, each in counts.items()} == {"train": 4, "dev": 4}
    assert recogniser.asked == ["u3", "u0", "u1", "u2", "u3"]


def test_another_source_replaces_times_but_given_ones_only_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prepared(tmp_path, count=1)
    Recogniser(monkeypatch)
    run(tmp_path, "pocketsphinx")
    assert run(tmp_path, "given")["train"].aligned == 1
    (tmp_path / "a.ctm").write_text("u0 1 0.1 0.3 hello\nu0 1 0.5 0.3 world\n")
    run(tmp_path, "ctm", tmp_path / "a.ctm")
    assert spans(path) == [[("Hello", 0.1, 0.4), ("world.", 0.5, 0.8)]]


def test_a_full_disk_leaves_the_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = prepared(tmp_path)
    before = path.read_bytes()
    recogniser = Recogniser(monkeypatch)
    (path.parent / f"cuts.jsonl.gz.{os.getpid()}.tmp").symlink_to("/dev/full")  # the kernel's own full disk
    with pytest.raises(DataError, match="No space left on device"):
        run(tmp_path, "pocketsphinx")
    assert path.read_bytes() == before
    assert run(tmp_path, "pocketsphinx")["train"].aligned == 3
    assert len(recogniser.asked) == 3
