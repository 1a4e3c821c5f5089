"""The benchmark on tiny real models: all is written, nothing is asked twice, gap and knowledge are real."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from toolkit.config import Config, compose_config
from toolkit.data.answers import Answer, Question
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.errors import CheckpointError, ConfigError, DataError
from toolkit.interfaces import LOSSES
from toolkit.models.speech_llm import SpeechLLM
from toolkit.scoring.scorecard import read_scorecard
from toolkit.stages import bench, train
from toolkit.stages.behaviour import Forced, GapStore, divergences, text_student
from toolkit.stages.hypotheses import read_rows
from toolkit.stages.imitate import text_llm
from toolkit.types import Example, GenerationOptions, LossInputs, Outputs, TextSegment

ConfigOf = Callable[..., Config]
ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ("speech", "deaf", "text", "other", "cascade")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tasks of the recipes, and one with a rule."""
    folder = tmp_path_factory.mktemp("bench") / "tasks"
    shutil.copytree(ROOT / "recipes/tasks", folder)
    text = "name: shout\nfamily: form\nheld_out: true\nrule: capitals\nwordings: {held_out: ['Shout: {speech}']}"
    (folder / "shout.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def options(tasks: Path) -> list[str]:
    return [
        f"bench.tasks={tasks}",
        "bench.wordings=2",
        "bench.knowledge=10",
        "decode.batch_size=7",
        "score.bootstrap=20",
    ]


@pytest.fixture(scope="module")
def benched(config_of: ConfigOf, options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = config_of(tmp_path_factory.mktemp("exp"), *options)
    train.run(config)
    bench.run(config)
    return config


def folder_of(config: Config) -> Path:
    return Path(config.exp_dir) / "bench" / "test"


def knowledge_of(config: Config) -> tuple[float, int]:
    found = read_scorecard(Path(config.exp_dir) / "bench/scores.json").find("knowledge", "speech", "all", "all")
    assert found is not None
    return found.details["same"], found.n


def test_every_system_answers_every_wording(benched: Config) -> None:
    keys = [{(r.id, r.task, r.prompt) for r in read_rows(folder_of(benched) / f"{name}.jsonl")} for name in SYSTEMS]
    # Two utterances, two wordings of both groups of five tasks, of two held-out tasks, and one that shouts.
    assert all(found == keys[0] for found in keys)
    assert len(keys[0]) == 2 * (5 * 4 + 2 * 2 + 1)
    rules = {row.task: row.rule for row in read_rows(folder_of(benched) / "speech.jsonl")}
    assert rules["shout"] == "capitals"
    assert set(rules.values()) == {"", "capitals"}


def test_everything_is_measured_with_n(benched: Config) -> None:
    card = read_scorecard(Path(benched.exp_dir) / "bench/scores.json")
    for metric, group in (
        ("agreement_mean", "seen_wording"), ("agreement_mean", "held_out_wording"), ("agreement_kept", "all"),
        ("agreement_spread", "seen_wording"), ("agreement_worst", "held_out_task"), ("compliance", "all"),
        ("kl", "all"), ("refusals", "all"), ("over_long", "all"), ("empty", "all"),
    ):  # fmt: skip
        found = card.find(metric, "speech", group, "all")
        assert found is not None, metric
        assert found.n > 0
        assert found.utterances == 2
    text = card.find("agreement_mean", "text", "held_out_wording", "all")
    assert text is not None
    assert text.value == 100
    assert knowledge_of(benched) == (10, 10)
    gaps = {system: card.find("kl", system, "all", "all") for system in ("speech", "deaf", "cascade")}
    assert all(score is not None and score.value and score.value > 0 for score in gaps.values())
    assert (Path(benched.exp_dir) / "bench/BENCH.md").read_text().startswith("# Benchmark: ")


def test_raw_answers_are_scored_again_without_any_model(benched: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [Path(benched.exp_dir) / "bench" / name for name in ("scores.json", "BENCH.md")]
    before = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    nowhere = {**benched.decoder, "model": "nowhere"}
    config = replace(benched, decoder=nowhere, data_dir="nowhere", bench=replace(benched.bench, rescore=True))
    bench.run(config)
    parts = [json.loads(text) for text in (before[0], files[0].read_text())]
    for part in parts:
        del part["metadata"]["parts"]
    assert parts[0] == parts[1]
    assert files[1].read_bytes() == before[1]


def test_nothing_is_asked_or_measured_twice_and_an_interrupted_run_goes_on(
    benched: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(folder_of(benched).glob("*.jsonl"))
    before = [path.read_bytes() for path in files]
    assert {path.stem for path in files} == {*SYSTEMS, "gap", "knowledge"}
    (store,) = folder_of(benched).glob("gaps-*/store.jsonl")
    lines = store.read_text().split("\n")
    rows: list[int] = []
    outputs = CausalLMDecoder.outputs

    def run(self: CausalLMDecoder, sequences: Any, *rest: Any) -> Outputs:
        rows.append(len(sequences))
        return outputs(self, sequences, *rest)

    def say(self: CausalLMDecoder, sequences: Any, *rest: Any) -> list[list[int]]:
        raise AssertionError("it has been asked before")

    monkeypatch.setattr(CausalLMDecoder, "outputs", run)
    monkeypatch.setattr(CausalLMDecoder, "generate", say)
    bench.run(benched)
    assert rows == []
    store.write_text("\n".join([*lines[:5], lines[5][:9]]))  # as an interruption in mid-line leaves it
    bench.run(benched)
    assert sum(rows) == 2 * (len(lines) - 1 - 5)  # as prompted and text-prompted, each
    after = [path.read_bytes() for path in files]
    assert [path.stem for path, a, b in zip(files, before, after, strict=True) if a != b] in ([], ["gap"])
    gaps = [[json.loads(line)["kl"] for line in text[files.index(folder_of(benched) / "gap.jsonl")].splitlines()]
            for text in (before, after)]  # fmt: skip
    torch.testing.assert_close(torch.tensor(gaps[0]), torch.tensor(gaps[1]), atol=1e-4, rtol=1e-4)


def test_other_questions_do_not_stand_beside_these(benched: Config) -> None:
    config = replace(benched, bench=replace(benched.bench, wordings=1, systems=["speech"], knowledge=0))
    kept = shutil.copytree(benched.exp_dir, Path(benched.exp_dir).parent / "fewer", dirs_exist_ok=True)
    config.exp_dir = str(kept)
    bench.run(config)
    assert {path.stem for path in folder_of(config).glob("*.jsonl")} == {"speech", "text", "other", "gap", "knowledge"}
    card = read_scorecard(Path(config.exp_dir) / "bench/scores.json")
    assert card.find("knowledge", "speech", "all", "all") is None
    assert len(read_rows(folder_of(config) / "speech.jsonl")) == 2 * (5 * 2 + 2 + 1)


def test_the_text_llm_has_no_gap_to_itself_and_the_gap_is_that_of_distillation(benched: Config) -> None:
    llm = text_llm(benched)
    asked = [
        (Question("Say: {speech}", "The garden is large."), Answer("My aunt speaks", True)),
        (Question("Reply: {speech}", "She sells shells."), Answer("fox", False)),
        (Question("Say: {speech}", "What is it?"), Answer("", True)),
    ]
    led = [Forced(question, question, answer) for question, answer in asked]
    same = divergences(llm, text_student(llm), led)
    assert [kl for kl, _ in same] == [0, 0, 0]
    tokens = [len(llm.tokenizer.encode(answer.text)) + answer.complete for _, answer in asked]
    assert [count for _, count in same] == tokens
    other = [Forced(replace(f.given, text="The quick brown fox."), f.true, f.answer) for f in led]
    found = divergences(llm, text_student(llm), other)
    assert all(kl > 0 for kl, _ in found)
    alone = [divergences(llm, text_student(llm), [forced])[0][0] for forced in other]
    assert [kl for kl, _ in found] == pytest.approx(alone, abs=1e-4)
    loss = LOSSES.build({"name": "distillation", "temperature": 1.0})
    for forced, (kl, count) in zip(other, found, strict=True):
        sides = [outputs_of(llm, question, forced.answer) for question in (forced.given, forced.true)]
        total = loss(LossInputs(torch.zeros(count), sides[0], sides[1])).total
        assert kl == pytest.approx(float(total), abs=1e-4)


def outputs_of(llm: Any, question: Question, answer: Answer) -> Outputs:
    """Score the answer's tokens by the plain model of transformers' own, without the toolkit's batches."""
    example = Example("", 0, "", prompt=question.prompt, response=answer.text, response_complete=answer.complete)
    pieces = llm.tokenizer.sequence(example, (TextSegment(question.text),))
    ids = [token for piece in pieces for token in piece.token_ids]
    count = len(pieces[-1].token_ids)
    with torch.no_grad():
        logits = llm.decoder.lm(torch.tensor([ids])).logits[0, -count - 1 : -1]
    return Outputs(logits, logits)


@pytest.mark.parametrize(("audio_only", "forgets"), [(False, True), (True, False)])
def test_lora_that_acts_on_text_is_seen_to_change_it(
    audio_only: bool, forgets: bool, config_of: ConfigOf, options: list[str], tmp_path: Path
) -> None:
    more = ["decoder=lora", f"decoder.audio_only={audio_only}", "train.steps=1", "bench.systems=[speech]"]
    config = config_of(tmp_path, *options, *more, "bench.wordings=1")
    train.run(config)
    # As after a long training: LoRA has a say.
    path = tmp_path / "checkpoint/trainable.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name in state:
        if ".lora_" in name:
            state[name] = 0.5 * torch.randn(state[name].shape, generator=torch.Generator().manual_seed(1))
    save_file(state, path, metadata)
    bench.run(config)
    same, n = knowledge_of(config)
    assert n == 10
    assert (same < n) == forgets


def test_what_cannot_be_is_refused_before_anything_is_asked(
    config_of: ConfigOf, options: list[str], tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(self: SpeechLLM, sequences: Any, options: GenerationOptions, *rest: Any) -> list[list[int]]:
        raise AssertionError("it was asked")

    monkeypatch.setattr(CausalLMDecoder, "generate", generate)
    for message, more in (
        (r"bench\.systems holds 'spech'; there are: speech, deaf, cascade", "bench.systems=[speech,spech]"),
        (r"bench\.systems needs 'speech'", "bench.systems=[deaf]"),
        (r"'englich'. Did you mean 'english'", "score.normaliser=englich"),
    ):
        with pytest.raises(ConfigError, match=message):
            bench.run(config_of(tmp_path, *options, more))
    with pytest.raises(CheckpointError, match="Train first"):
        bench.run(config_of(tmp_path, *options))
    with pytest.raises(DataError, match="run `toolkit bench` first"):
        bench.run(config_of(tmp_path, "bench.rescore=true"))
    with pytest.raises(ConfigError, match=r"bench\.wordings is at least 0"):
        compose_config(["bench.wordings=-1"])
    wrong = shutil.copytree(tasks, tmp_path / "tasks")
    (wrong / "shout.yaml").write_text((wrong / "shout.yaml").read_text().replace("capitals", "capital"))
    with pytest.raises(ConfigError, match=r"task 'shout': unknown rule 'capital'. Did you mean 'capitals'"):
        bench.run(config_of(tmp_path, f"bench.tasks={wrong}"))


def test_a_cut_last_line_is_taken_out_of_the_store(tmp_path: Path) -> None:
    store = GapStore(tmp_path / "store.jsonl")
    store.add(["a", "b"], [(0.5, 2), (0.0, 0)])
    with store.path.open("a") as file:
        file.write('["c", 0.')
    assert GapStore(store.path).known == {"a": (0.5, 2), "b": (0.0, 0)}
    GapStore(store.path).add(["c"], [(1.0, 1)])
    assert list(GapStore(store.path).known) == ["a", "b", "c"]


def test_a_recogniser_is_benched_without_a_model_that_could_forget(
    config_of: ConfigOf, options: list[str], tmp_path: Path
) -> None:
    config = config_of(tmp_path, *options, "decode.hears=recogniser", "bench.systems=[speech,deaf]", "train.steps=0")
    bench.run(config)
    card = read_scorecard(tmp_path / "bench/scores.json")
    assert card.find("knowledge", "speech", "all", "all") is None
    gap = card.find("kl", "speech", "all", "all")
    assert gap is not None
    assert gap.value is not None
