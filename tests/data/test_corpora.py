"""Corpora: three formats read as they are found in the world, and what no manifest may do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from toolkit.data.corpora import Utterance, manifest_files, read_corpus
from toolkit.errors import DataError, UnknownNameError
from toolkit.types import Word


def write_audio(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, round(seconds * 16000)).astype(np.float32)
    soundfile.write(path, samples, 16000)
    return path


def read(form: str, folder: Path, split: str) -> list[Utterance]:
    return list(read_corpus(form, folder, split))


def librispeech(root: Path, part: str = "train-clean-100") -> Path:
    for speaker in ("19", "26"):
        chapter = root / part / speaker / "198"
        lines = []
        for i in range(2):
            name = f"{speaker}-198-000{i}"
            write_audio(chapter / f"{name}.flac")
            lines.append(f"{name} NUMBER {i}\n")
        (chapter / f"{speaker}-198.trans.txt").write_text("".join(lines))
    return root


def test_librispeech_with_one_part_and_two_speakers(tmp_path: Path) -> None:
    found = read("librispeech", librispeech(tmp_path), "train-clean-100")
    assert [(each.id, each.speaker, each.transcript) for each in found] == [
        ("19-198-0000", "19", "NUMBER 0"), ("19-198-0001", "19", "NUMBER 1"),
        ("26-198-0000", "26", "NUMBER 0"), ("26-198-0001", "26", "NUMBER 1"),
    ]  # fmt: skip
    assert found[0].audio == tmp_path / "train-clean-100/19/198/19-198-0000.flac"


def test_librispeech_alignments_come_through_lhotse(tmp_path: Path) -> None:
    root = librispeech(tmp_path)
    (root / "train-clean-100/19/198/19-198.alignment.txt").write_text(
        '19-198-0000 ",NUMBER,,ZERO" "0.100,0.250,0.300,0.500"\n'
    )
    first, second, *_ = read("librispeech", root, "train-clean-100")
    assert first.words == (Word("NUMBER", 0.1, 0.25), Word("ZERO", 0.3, 0.5))
    assert second.words == ()


def test_librispeech_joined_parts_and_single_speakers(tmp_path: Path) -> None:
    librispeech(librispeech(tmp_path), "dev-clean")
    assert len(read("librispeech", tmp_path, "train-clean-100+dev-clean")) == 8
    assert {each.speaker for each in read("librispeech", tmp_path, "dev-clean/26")} == {"26"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what lhotse tries on a file it cannot read
def test_librispeech_broken_utterances_are_still_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chapter = librispeech(tmp_path) / "train-clean-100/19/198"
    (chapter / "19-198-0000.flac").unlink()
    with (chapter / "19-198.trans.txt").open("a") as file:
        file.write("19-198-0002\n")
    (chapter / "19-198-0001.flac").write_bytes(b"no audio")
    found = read("librispeech", tmp_path, "train-clean-100")
    assert len(found) == 5
    assert found[2].transcript == ""
    assert "lhotse's recipe" in caplog.text


def test_librispeech_without_the_part(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dev-clean has no .*trans.txt; such files are in: train-clean-100"):
        read("librispeech", librispeech(tmp_path), "dev-clean")


def kaldi(root: Path, **files: str) -> Path:
    for name in ("a", "b"):
        write_audio(root / f"wav/{name}.wav")
    folder = root / "train"
    folder.mkdir()
    defaults = {
        "wav_scp": "a wav/a.wav\nb\twav/b.wav\n",
        "text": "a HELLO\nb WORLD WIDE\n",
        "utt2spk": "a s1\nb s2\n",
    }
    for name, content in {**defaults, **files}.items():
        (folder / name.replace("_", ".")).write_text(content)
    return root


def test_kaldi_paths_relative_to_the_parent(tmp_path: Path) -> None:
    kaldi(tmp_path, spk2age="s1 7\n")
    first, second = read("kaldi", tmp_path, "train")
    assert first == Utterance("a", tmp_path / "wav/a.wav", "HELLO", "s1", "train")
    assert (second.transcript, second.speaker) == ("WORLD WIDE", "s2")


def test_kaldi_paths_absolute_relative_to_the_folder_and_to_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = write_audio(tmp_path / "elsewhere/x.wav")
    corpus = kaldi(tmp_path / "corpus", wav_scp=f"a {elsewhere}\nb sub/b.wav\nc here/c.wav\nd ../wav/a.wav\n")
    inside = write_audio(corpus / "train/sub/b.wav")
    here = write_audio(tmp_path / "run/here/c.wav")
    monkeypatch.chdir(tmp_path / "run")
    found = {each.id: each.audio for each in read("kaldi", corpus, "train")}
    assert found == {"a": elsewhere, "b": inside, "c": here, "d": corpus / "wav/a.wav"}


def test_kaldi_segments(tmp_path: Path) -> None:
    kaldi(
        tmp_path,
        segments="u1 a 0.10 0.30\nu2 a 0.30 0.50\n",
        text="u1 ONE\nu2 TWO\n",
        utt2spk="u1 s1\nu2 s1\n",
    )
    first, second = read("kaldi", tmp_path, "train")
    assert (first.id, first.recording, first.start, first.end, first.transcript) == (
        "u1",
        "a",
        0.1,
        0.3,
        "ONE",
    )
    assert second.audio == tmp_path / "wav/a.wav"


def test_kaldi_without_speakers_text_or_audio(tmp_path: Path) -> None:
    kaldi(tmp_path, text="a HELLO\nc NO AUDIO\n")
    (tmp_path / "train/utt2spk").unlink()
    found = {each.id: each for each in read("kaldi", tmp_path, "train")}
    assert found["a"].speaker == "a"
    assert found["b"].transcript == ""
    assert found["c"].audio is None


@pytest.mark.parametrize("entry", ["sox x.wav -t wav - |", "touch pwned |", "| cat", "-"])
def test_kaldi_commands_are_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    monkeypatch.chdir(tmp_path)
    kaldi(tmp_path, wav_scp=f"a wav/a.wav\nb {entry}\n")
    with pytest.raises(DataError, match=r"wav.scp, 'b': '.*' is a command, and commands found in data are never"):
        read("kaldi", tmp_path, "train")
    assert not (tmp_path / "pwned").exists()


def test_kaldi_relative_paths_stay_in_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "secret.wav")
    corpus = kaldi(tmp_path / "corpus", wav_scp="a ../../secret.wav\n")
    monkeypatch.chdir(corpus)
    with pytest.raises(DataError, match="leads out of the corpus; write an absolute path"):
        read("kaldi", corpus, "train")


@pytest.mark.parametrize("line", ["u1 a 0.5", "u1 a zero 1", "u1 a 0.5 0.2", "u1 a -1 0.2"])
def test_kaldi_broken_segments(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match="segments"):
        read("kaldi", kaldi(tmp_path, segments=line + "\n"), "train")


@pytest.mark.parametrize("table", ["wav_scp", "text", "utt2spk"])
def test_kaldi_keys_are_unique(tmp_path: Path, table: str) -> None:
    with pytest.raises(DataError, match="'a' occurs more than once"):
        read("kaldi", kaldi(tmp_path, **{table: "a x.wav\na y.wav\n"}), "train")


def test_kaldi_without_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dev has no wav.scp; such files are in: train"):
        read("kaldi", kaldi(tmp_path), "dev")


def test_kaldi_text_in_another_encoding(tmp_path: Path) -> None:
    kaldi(tmp_path)
    (tmp_path / "train/text").write_bytes("a CAFÉ\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"cannot read .*train/text"):
        read("kaldi", tmp_path, "train")


def jsonl(root: Path, **changes: Any) -> Path:
    row = {
        "id": "v-1", "voice": "v", "split": "dev", "kind": "question", "text": "Who is it?", "duration": 0.5,
        "words": [["Who", 0.0, 0.1], ["is", 0.1, 0.2], ["it?", 0.2, 0.5]],
    }  # fmt: skip
    row = {key: value for key, value in {**row, **changes}.items() if value is not None}
    (root / "utterances.jsonl").write_text(json.dumps({**row, "split": "train"}) + "\n\n" + json.dumps(row) + "\n")
    return root


def test_jsonl(tmp_path: Path) -> None:
    [found] = read("jsonl", jsonl(tmp_path), "dev")
    assert found == Utterance(
        "v-1", tmp_path / "audio/v/v-1.opus", "Who is it?", "v", "dev", duration=0.5,
        words=(Word("Who", 0.0, 0.1), Word("is", 0.1, 0.2), Word("it?", 0.2, 0.5)),
        custom={"kind": "question"},
    )  # fmt: skip


def test_jsonl_with_the_least(tmp_path: Path) -> None:
    [found] = read("jsonl", jsonl(tmp_path, voice=None, kind=None, duration=None, words=None, audio="x/1.wav"), "dev")
    assert found == Utterance("v-1", tmp_path / "x/1.wav", "Who is it?", "", "dev")


@pytest.mark.parametrize(
    "change",
    [{"voice": "../.."}, {"id": "../../x"}, {"audio": "/etc/passwd"}, {"audio": "audio/../../x.wav"}],
)
def test_jsonl_paths_stay_in_the_corpus(tmp_path: Path, change: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"utterances.jsonl, line 3: the path '.*' leads out of the corpus folder"):
        read("jsonl", jsonl(tmp_path, **change), "dev")


@pytest.mark.parametrize("change", [{"text": None}, {"words": [["Who", 0.0]]}, {"words": [["Who", 0.0, "late"]]}])
def test_jsonl_broken_lines_are_named(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"utterances.jsonl, line 3: (KeyError|ValueError)"):
        read("jsonl", jsonl(tmp_path, **change), "dev")


def test_jsonl_cut_off(tmp_path: Path) -> None:
    path = jsonl(tmp_path) / "utterances.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match="line 3: JSONDecodeError"):
        read("jsonl", tmp_path, "dev")


def test_jsonl_without_the_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no split 'test', only: dev, train"):
        read("jsonl", jsonl(tmp_path), "test")


def test_unknown_format_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown corpus format 'kaldy'. Did you mean 'kaldi'"):
        read("kaldy", tmp_path, "train")
    with pytest.raises(DataError, match=r"does not exist: check prepare.corpus"):
        read("kaldi", tmp_path / "gone", "train")


def test_manifest_files(tmp_path: Path) -> None:
    names = [path.name for path in manifest_files("kaldi", kaldi(tmp_path), "train")]
    assert names == ["wav.scp", "text", "utt2spk"]
