"""The readers of the suites' files: what becomes of a row, and what is refused, by file and row."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from toolkit.errors import ConfigError, DataError
from toolkit.suites import dynamic_superb as dynamic
from toolkit.suites import speech_ifeval as speech
from toolkit.suites import tables
from toolkit.suites.item import EXACT, JUDGE, LABEL, LETTERS, LOOSE, REFUSAL, RULES, WORDS, YES_NO, Item, Parts
from toolkit.suites.tables import find_tables, rows_of, sound_of
from toolkit.suites.voicebench import judged
from toolkit.suites.voicebench import read as read_voicebench


def items_of(parts: Parts) -> dict[str, Item]:
    return {item.id: item for read in parts.values() for item in read()}


def wav_bytes(seed: int = 0) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.random.default_rng(seed).standard_normal(8000), 16000, format="WAV")
    return file.getvalue()


def edit(path: Path, number: int, **changes: Any) -> None:
    """Change fields of one row of a JSON-lines file; None takes a field away."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[number] = {key: value for key, value in (rows[number] | changes).items() if value is not None}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_speech_ifeval_has_text_beside_audio_rules_and_references(speech_ifeval: Path) -> None:
    items = items_of(speech.read(speech_ifeval))
    assert list(items) == [
        "chain-of-thought/0", "closed_ended_questions/0", "closed_ended_questions/1", "creative_writing/0",
    ]  # fmt: skip
    heard, named = items["closed_ended_questions/0"], items["closed_ended_questions/1"]
    assert (heard.measures, heard.reference) == ((RULES, WORDS), "THE KETTLE IS ON")
    assert heard.instruction.endswith("In small letters only.")
    assert [(rule.id, dict(rule.arguments)) for rule in heard.rules] == [("change_case:english_lowercase", {})]
    assert heard.sounds[0].path == speech_ifeval / "audios/Asr/0.wav"
    assert (named.measures, named.reference, named.options) == ((RULES, LABEL), "Cat", ("Cat", "Dog"))
    assert items["creative_writing/0"].measures == (RULES,)
    assert items["chain-of-thought/0"].measures == (JUDGE,)
    assert items["closed_ended_questions/0"].unit == items["chain-of-thought/0"].unit == "Asr/0.wav"


def test_questions_without_the_constraint_have_no_rules_and_labels_come_from_the_file(speech_ifeval: Path) -> None:
    closed = speech_ifeval / "eval_data" / "closed_ended_questions.jsonl"
    edit(closed, 1, instruction="Which animal is it?")
    closed.rename(closed.with_name("closed_ended_questions-woprompt.jsonl"))
    item = items_of(speech.read(speech_ifeval))["closed_ended_questions-woprompt/1"]
    assert (item.measures, item.rules, item.options) == ((LABEL,), (), ("Cat",))


def test_voicebench_speaks_everything(voicebench_items: dict[str, Item]) -> None:
    measures = {name: item.measures for name, item in voicebench_items.items()}
    assert measures == {
        "ifeval/0": (RULES, LOOSE), "mmsu/0": (LETTERS,), "openbookqa/0": (LETTERS,), "bbh/0": (YES_NO,),
        "bbh/1": (LETTERS,), "advbench/0": (REFUSAL,),
    }  # fmt: skip
    assert {item.instruction for item in voicebench_items.values()} == {""}
    assert [dict(rule.arguments) for rule in voicebench_items["ifeval/0"].rules] == [{}, {"keywords": ["tea"]}]
    assert (voicebench_items["bbh/0"].reference, voicebench_items["bbh/1"].reference) == ("no", "B")
    assert voicebench_items["bbh/1"].options == ("A", "B")
    assert dict(voicebench_items["mmsu/0"].meta) == {"question_id": "7", "category": "law"}


@pytest.fixture
def voicebench_items(voicebench: Path) -> dict[str, Item]:
    return items_of(read_voicebench(voicebench))


def test_subsets_of_a_judge_are_named_and_not_read(voicebench: Path) -> None:
    assert judged(voicebench) == ["alpacaeval"]
    assert "alpacaeval" not in read_voicebench(voicebench)


def test_dynamic_superb_has_the_labels_of_a_task_and_pairs_of_recordings(dynamic_superb: Path) -> None:
    items = items_of(dynamic.read(dynamic_superb))
    assert list(items) == ["SpeakerVerification_Toy/0", *(f"ToneDetection_Toy/{number}" for number in range(3))]
    one, two = items["ToneDetection_Toy/1"], items["SpeakerVerification_Toy/0"]
    assert (one.measures, one.reference, one.options) == ((EXACT, LABEL), "falling", ("falling", "rising"))
    assert one.sounds[0].path == dynamic_superb / "ToneDetection_Toy/test/1.wav"
    assert [sound.path and sound.path.name for sound in two.sounds] == ["a.wav", "a_pair.wav"]
    assert two.instruction == "One speaker?\ntea"


@pytest.mark.parametrize("name", ["/etc/hostname", "../../speech-ifeval-other/x.wav", "a/../../../x.wav", "bad\0name"])
def test_a_path_that_leads_out_of_the_folder_is_refused(name: str, speech_ifeval: Path) -> None:
    edit(speech_ifeval / "eval_data" / "creative_writing.jsonl", 0, audio_filepath=name)
    with pytest.raises(DataError, match=r"creative_writing\.jsonl:1: .*(leads out of|is no file name)"):
        items_of(speech.read(speech_ifeval))


def test_a_link_that_leads_out_of_the_folder_is_refused(speech_ifeval: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(wav_bytes())
    (speech_ifeval / "audios" / "Asr" / "link.wav").symlink_to(tmp_path / "secret.wav")
    edit(speech_ifeval / "eval_data" / "creative_writing.jsonl", 0, audio_filepath="Asr/link.wav")
    with pytest.raises(DataError, match="leads out of"):
        items_of(speech.read(speech_ifeval))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instruction": None}, "'instruction' must be a text"),
        ({"metric": "bleu"}, "there is no metric 'bleu'; there are accuracy, wer, cot, open"),
        ({"audio_filepath": 3}, "'audio_filepath' must be a text"),
        ({"audio_filepath": ""}, "no recording"),
        ({"instruction_id_list": ["length:short"]}, "unknown instruction 'length:short'"),
        ({"instruction_id_list": [], "kwargs": []}, "nothing could be scored"),
        ({"kwargs": [{"num_words": 5}]}, "cannot have the arguments"),
    ],
)
def test_a_row_that_is_not_as_it_should_be_is_named(changes: dict[str, Any], message: str, speech_ifeval: Path) -> None:
    edit(speech_ifeval / "eval_data" / "creative_writing.jsonl", 0, **changes)
    with pytest.raises(DataError, match=rf"creative_writing\.jsonl:1: .*{message}"):
        items_of(speech.read(speech_ifeval))


def test_references_that_no_answer_could_equal_are_refused(voicebench: Path, dynamic_superb: Path) -> None:
    edit(voicebench / "bbh" / "test.jsonl", 0, reference="perhaps")
    with pytest.raises(DataError, match="'perhaps' is none of A, B"):
        items_of(read_voicebench(voicebench))
    metadata = dynamic_superb / "ToneDetection_Toy" / "test" / "metadata.json"
    rows = json.loads(metadata.read_text())
    del rows["1.wav"]["label"]
    metadata.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"metadata\.json '1\.wav': there is no label"):
        items_of(dynamic.read(dynamic_superb))


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (speech.read, "which holds eval_data/ and audios/"),
        (read_voicebench, "none of the folders ifeval, mmsu"),
        (dynamic.read, "no folder of a task"),
    ],
)
def test_a_folder_of_something_else_is_told_what_it_should_hold(
    read: Callable[[Path], Parts], message: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        read(tmp_path / "empty")


def test_a_task_without_a_test_split_says_so(dynamic_superb: Path) -> None:
    (dynamic_superb / "Other_Toy" / "train").mkdir(parents=True)
    (dynamic_superb / "Other_Toy" / "train" / "rows.jsonl").write_text('{"label": "x"}\n')
    with pytest.raises(DataError, match="Other_Toy has no test split"):
        items_of(dynamic.read(dynamic_superb))


def test_lines_are_read_as_lines_and_named_by_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "one\u2028two"}\n\n{"a": 2}\n', encoding="utf-8")
    assert [row for _, row in rows_of(path)] == [{"a": "one\u2028two"}, {"a": 2}]
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2 is not JSON"):
        list(rows_of(path))
    path.write_text("[1]\n")
    with pytest.raises(DataError, match="not a record"):
        list(rows_of(path))
    path.write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(DataError, match="not JSON"):
        list(rows_of(path))


def test_tables_of_two_kinds_are_not_both_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    (tmp_path / "cache-1.arrow").write_bytes(b"")
    assert [path.name for path in find_tables(tmp_path)] == ["a.jsonl"]
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(DataError, match="several kinds"):
        find_tables(tmp_path)


def test_bytes_in_a_row_are_a_recording_of_its_own(tmp_path: Path) -> None:
    sound = sound_of({"bytes": wav_bytes(1), "path": "x.wav"}, tmp_path, tmp_path, "t.parquet:3")
    other = sound_of({"bytes": wav_bytes(2), "path": "x.wav"}, tmp_path, tmp_path, "t.parquet:3")
    assert sound.name == "x.wav@t.parquet:3"
    assert not sound.missing
    assert sound.mark != other.mark
    assert Item("p/0", "p", (sound,)).without_sound().sounds[0].mark == sound.mark
    assert sound_of({"bytes": None, "path": "x.wav"}, tmp_path, tmp_path, "t:1").path == tmp_path / "x.wav"


def test_tables_without_pyarrow_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'mtbi-toolkit\[suites\]'"):
        list(rows_of(tmp_path / "a.parquet"))


@pytest.mark.parametrize("suffix", [tables.PARQUET, tables.ARROW])
def test_tables_of_datasets_are_the_same_rows(suffix: str, voicebench: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    lines = items_of(read_voicebench(voicebench))
    for part in ("ifeval", "bbh"):
        folder = tmp_path / "tables" / part
        folder.mkdir(parents=True)
        rows = []
        for _, row in rows_of(voicebench / part / "test.jsonl"):
            file = voicebench / part / row["audio"]["path"]
            rows.append(row | {"audio": {"bytes": file.read_bytes(), "path": file.name}})
        table = pa.Table.from_pylist(rows * 20)
        if suffix == tables.PARQUET:
            import pyarrow.parquet as parquet

            parquet.write_table(table, folder / "test-00000-of-00001.parquet", row_group_size=7)
        else:
            with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as stream:
                stream.write_table(table)
    found = items_of(read_voicebench(tmp_path / "tables"))
    assert len(found) == 20 * 3
    for name in ("ifeval/0", "bbh/0", "bbh/1"):
        assert (found[name].rules, found[name].reference) == (lines[name].rules, lines[name].reference)
        path = lines[name].sounds[0].path
        assert path is not None
        assert found[name].sounds[0].content == path.read_bytes()
    (table_file,) = find_tables(tmp_path / "tables" / "bbh")
    assert [row for _, row in rows_of(table_file, ["reference"])][:2] == [{"reference": "No"}, {"reference": "(B)"}]


@pytest.mark.parametrize("suffix", [tables.PARQUET, tables.ARROW])
def test_a_damaged_table_is_named(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=f"cannot read .*bad{suffix}"):
        list(rows_of(path))
