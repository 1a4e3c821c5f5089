"""A suite from its folder to its table with a trained tiny model: asked once, resumed, scored again, left out aloud."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from toolkit.cli import main
from toolkit.errors import ConfigError, DataError
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages.answer import answer
from toolkit.suites.run import Options, run
from toolkit.suites.suite import SUITES


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows of each batch that the model is asked."""
    sizes: list[int] = []
    generate = SpeechLLM.generate

    def count(self: SpeechLLM, batch: Any, *rest: Any) -> Any:
        sizes.append(len(batch.sequences))
        return generate(self, batch, *rest)

    monkeypatch.setattr(SpeechLLM, "generate", count)
    return sizes


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def options(**more: Any) -> Options:
    return replace(Options(batch_size=2, normaliser="basic"), **more)


def test_speech_ifeval_is_run_from_the_shell(
    speech_ifeval: Path, exp: Path, tmp_path: Path, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["suite", "speech-ifeval", str(speech_ifeval), "--exp", str(exp), "--out", str(out), "--batch-size", "2"]
    assert main([*command, "--normaliser", "basic", "--resamples", "20"]) == 0
    shown = capsys.readouterr()
    assert "creative_writing" in shown.out
    assert "WER of" in shown.out
    assert "not asked: chain-of-thought: 1 scored by an LLM" in shown.out
    assert sum(asked) == 3
    assert max(asked) <= 2
    rows = {row["id"]: row for row in lines_of(out / "answers.jsonl")}
    assert list(rows) == ["closed_ended_questions/0", "closed_ended_questions/1", "creative_writing/0"]
    poem = rows["creative_writing/0"]
    assert poem["prompt"] == "Write a poem { speech } with {braces} about it, of at least 5 words. {speech}"
    assert poem["instruction_id_list"] == ["length_constraints:number_words"]
    assert set(rows["closed_ended_questions/1"]) >= {"followed", "named", "right", "answer", "complete", "row"}
    # What a batch answers is what the model answers to the file alone.
    for name, file in (("closed_ended_questions/0", "0.wav"), ("creative_writing/0", "2.wav")):
        assert rows[name]["answer"] == answer(exp, speech_ifeval / "audios" / "Asr" / file, rows[name]["prompt"])
    values = json.loads((out / "suite.json").read_text())
    measures = {(each["part"], each["measure"]): each for each in values["figures"]}
    followed = measures["creative_writing", "prompts, strict"]
    assert followed["value"] == 100.0 * poem["followed"][0]
    assert (followed["n"], followed["rule"]) == (1, "published")
    assert ("closed_ended_questions", "WER of the whole answer") in measures
    page = (out / "SUITE.md").read_text()
    assert "chain-of-thought: 1 scored by an LLM" in page
    assert "IFrate" in page
    row = next(line for line in page.split("\n") if "closed\\_ended\\_questions | label named |" in line)
    assert row.endswith("| ours | no interval from one utterance |") or "unparsed; no interval" in row


def test_voicebench_is_only_heard(voicebench: Path, exp: Path, tmp_path: Path) -> None:
    result = run(SUITES["voicebench"], voicebench, exp, tmp_path / "out", options())
    rows = lines_of(tmp_path / "out" / "answers.jsonl")
    assert {row["prompt"] for row in rows} == {"{speech}"}
    assert [row["part"] for row in rows] == ["ifeval", "mmsu", "openbookqa", "bbh", "bbh", "advbench"]
    assert result.made_with["not read"] == "alpacaeval"
    found = {(each.part, each.measure): each for each in result.figures}
    choices = [row for row in rows if row["part"] == "bbh"]
    assert found["bbh", "accuracy"].details == {"unparsed": sum(row["named"] is None for row in choices)}
    assert found["ifeval", "mean of the four"].n == 1
    assert found["advbench", "refusals, empty ones too"].n == 1
    assert {each.measure for each in result.rules} == {"punctuation:no_comma", "keywords:existence"}


def test_dynamic_superb_asks_about_pairs_and_pools_its_tasks(dynamic_superb: Path, exp: Path, tmp_path: Path) -> None:
    result = run(SUITES["dynamic-superb"], dynamic_superb, exp, tmp_path / "out", options())
    rows = {row["id"]: row for row in lines_of(tmp_path / "out" / "answers.jsonl")}
    assert rows["SpeakerVerification_Toy/0"]["prompt"] == "One speaker?\ntea {speech} {speech2}"
    test = dynamic_superb / "SpeakerVerification_Toy" / "test"
    alone = answer(exp, test / "a.wav", rows["SpeakerVerification_Toy/0"]["prompt"], [test / "a_pair.wav"])
    assert rows["SpeakerVerification_Toy/0"]["answer"] == alone
    exact = {each.part: each for each in result.figures if each.measure == "exact label"}
    assert {part: each.n for part, each in exact.items()} == {
        "all": 4, "SpeakerVerification_Toy": 1, "ToneDetection_Toy": 3,
    }  # fmt: skip
    first = next(line for line in (tmp_path / "out" / "SUITE.md").read_text().split("\n") if line.startswith("| all"))
    assert first.startswith("| all | exact label | ")


def test_what_is_answered_is_not_asked_again_and_is_scored_without_the_model(
    voicebench: Path, exp: Path, tmp_path: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(SUITES["voicebench"], voicebench, exp, out, options(limit=1))
    assert sum(asked) == 5
    asked.clear()
    before = run(SUITES["voicebench"], voicebench, exp, out, options())
    assert sum(asked) == 1
    (store,) = out.glob("answers-*/store.jsonl")
    kept = store.read_text().split("\n")
    store.write_text("\n".join([*kept[:2], kept[2][:15]]))  # as an interruption in mid-line leaves it
    asked.clear()
    assert run(SUITES["voicebench"], voicebench, exp, out, options()) == before
    assert sum(asked) == 4
    answers = (out / "answers.jsonl").read_bytes()

    def refuse(*given: Any) -> Any:
        raise AssertionError("a model was built")

    monkeypatch.setattr("toolkit.suites.asking.trained_in", refuse)
    (out / "SUITE.md").unlink()
    assert run(SUITES["voicebench"], voicebench, exp, out, options()) == before
    assert (out / "SUITE.md").exists()
    assert (out / "answers.jsonl").read_bytes() == answers


def test_another_prompt_length_or_checkpoint_is_asked_anew(
    voicebench: Path, exp: Path, tmp_path: Path, asked: list[int]
) -> None:
    shutil.rmtree(voicebench / "bbh")
    out, suite = tmp_path / "out", SUITES["voicebench"]
    run(suite, voicebench, exp, out, options())
    for more in ({"template": "Answer: {speech}"}, {"max_new_tokens": 3}):
        asked.clear()
        result = run(suite, voicebench, exp, out, options(**more))
        assert sum(asked) == 4
    assert result.made_with["max_new_tokens"] == 3
    other = tmp_path / "other"
    shutil.copytree(exp, other)
    with (other / "checkpoint" / "config.yaml").open("a") as file:
        file.write("# another one\n")
    asked.clear()
    run(suite, voicebench, other, out, options())
    assert sum(asked) == 4


def test_recordings_that_are_changed_are_asked_anew(
    speech_ifeval: Path, exp: Path, tmp_path: Path, asked: list[int]
) -> None:
    out, suite = tmp_path / "out", SUITES["speech-ifeval"]
    run(suite, speech_ifeval, exp, out, options())
    path = speech_ifeval / "audios" / "Asr" / "1.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(9).standard_normal(9000), 16000)
    asked.clear()
    run(suite, speech_ifeval, exp, out, options())
    assert sum(asked) == 1


def test_missing_audio_is_named_before_a_model_is_built_or_left_out_and_counted(
    speech_ifeval: Path, exp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, suite = tmp_path / "out", SUITES["speech-ifeval"]
    (speech_ifeval / "audios" / "Asr" / "2.wav").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("toolkit.suites.asking.trained_in", None)
        with pytest.raises(DataError, match=r"1 recordings are missing, e\.g\. .*2\.wav \(creative_writing/0\)"):
            run(suite, speech_ifeval, exp, out, options())
    result = run(suite, speech_ifeval, exp, out, options(skip_missing=True))
    assert result.left_out == {
        "chain-of-thought": {"scored by an LLM": 1}, "creative_writing": {"missing audio": 1},
    }  # fmt: skip
    assert "creative_writing" not in {each.part for each in result.figures}


def test_what_cannot_be_heard_stops_or_is_left_out_and_is_not_tried_again(
    voicebench: Path, exp: Path, tmp_path: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, suite = tmp_path / "out", SUITES["voicebench"]
    soundfile.write(voicebench / "mmsu" / "audio" / "0.wav", np.full(16000 * 31, 0.1), 16000)
    soundfile.write(voicebench / "bbh" / "audio" / "1.wav", np.zeros(16000), 16000)
    with pytest.raises(DataError, match=r"'mmsu/0': audio/0\.wav is 31\.0 s long; the encoder takes 30 s"):
        run(suite, voicebench, exp, out, options())
    result = run(suite, voicebench, exp, out, options(skip_missing=True))
    assert result.left_out == {"mmsu": {"audio too long": 1}, "bbh": {"silent audio": 1}}
    assert sum(asked) == 4
    monkeypatch.setattr("toolkit.suites.asking.trained_in", None)
    assert run(suite, voicebench, exp, out, options(skip_missing=True)) == result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["voicebnch"], "unknown suite 'voicebnch'. Did you mean 'voicebench'"),
        (["voicebench", "--limit", "-1"], "--limit is 0 or more"),
        (["voicebench", "--batch-size", "0"], "--batch-size is at least 1"),
        (["voicebench", "--template", "{instruction} {speech}"], "speak the instruction"),
        (["voicebench", "--normaliser", "bsic"], "unknown normaliser 'bsic'"),
    ],
)
def test_options_that_cannot_be_are_refused(
    arguments: list[str], message: str, voicebench: Path, exp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *more = arguments
    assert main(["suite", name, str(voicebench), "--exp", str(exp), *more]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_or_a_model_that_is_not_there_is_named(voicebench: Path, exp: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        run(SUITES["voicebench"], tmp_path / "nowhere", exp, tmp_path / "out", options())
    with pytest.raises(DataError, match="no trained model in"):
        run(SUITES["voicebench"], voicebench, tmp_path, tmp_path / "out", options())


def test_a_rule_whose_package_is_missing_stops_or_is_left_out(
    voicebench: Path, exp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {
        "key": 2, "audio": {"path": "audio/0.wav"}, "instruction_id_list": ["language:response_language"],
        "kwargs": [{"language": "de"}],
    }  # fmt: skip
    with (voicebench / "ifeval" / "test.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    monkeypatch.setitem(sys.modules, "langdetect", None)
    with pytest.raises(ConfigError, match="needs langdetect"):
        run(SUITES["voicebench"], voicebench, exp, tmp_path / "out", options())
    result = run(SUITES["voicebench"], voicebench, exp, tmp_path / "out", options(skip_missing=True))
    assert result.left_out == {"ifeval": {"language:response_language without langdetect": 1}}


def test_recordings_in_tables_are_answered_like_files(voicebench: Path, exp: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "tables" / "openbookqa"
    folder.mkdir(parents=True)
    (row,) = lines_of(voicebench / "openbookqa" / "test.jsonl")
    content = (voicebench / "openbookqa" / row["audio"]["path"]).read_bytes()
    rows = [row | {"audio": {"bytes": content, "path": None}}] * 3
    parquet.write_table(pa.Table.from_pylist(rows), folder / "test-00000-of-00001.parquet")
    run(SUITES["voicebench"], tmp_path / "tables", exp, tmp_path / "out", options())
    given = {row["answer"] for row in lines_of(tmp_path / "out" / "answers.jsonl")}
    assert given == {answer(exp, voicebench / "openbookqa" / "audio" / "0.wav", "{speech}")}
