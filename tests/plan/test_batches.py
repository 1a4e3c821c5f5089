"""`toolkit plan batches`: the order of training, from manifests alone, and what is wrong in it is found."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.assets import pretrained
from toolkit.cli import main
from toolkit.config import Config, compose_config
from toolkit.data.budget import Budget, Share, padded_cost
from toolkit.data.costs import Costs
from toolkit.data.drawn_costs import DrawnCosts
from toolkit.data.order import StepOrder
from toolkit.errors import ConfigError, DataError
from toolkit.interfaces import LOSSES
from toolkit.plan import manifest as manifests
from toolkit.plan.batches import plan_batches, simulate
from toolkit.plan.librispeech_like import librispeech_like
from toolkit.plan.manifest import KeptLLM, read_manifest
from toolkit.plan.sizes import model_without_weights
from toolkit.stages import imitate, train
from toolkit.stages.paths import answers_folder
from toolkit.stages.steps import costs_of, views_of

ConfigOf = Callable[..., Config]
COSTS = [7 + i % 13 for i in range(50)]


def words_of(config: Config) -> list[str]:
    """Return the overrides that a shell would say for such a configuration."""
    return [
        "recipes=mtbi", f"exp_dir={config.exp_dir}", f"data_dir={config.data_dir}", "adapter=stack",
        "adapter.hidden_dim=16", f"encoder.model={config.encoder['model']}", "encoder.window=true_length",
        f"decoder.model={config.decoder['model']}", "imitate.max_new_tokens=5", "train.batch_size=4",
        f"prepare.corpus={config.prepare.corpus}", "prepare.format=jsonl",
    ]  # fmt: skip


def test_the_manifest_is_what_training_learns_and_nothing_is_loaded(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path)
    loss = LOSSES.build(config.loss)
    wanted = train.training_examples(config, imitate.text_llm(config), loss)

    def loads(*_: object) -> str:
        raise AssertionError("weights are looked for")

    found = read_manifest(config, loss)
    assert found.examples == wanted
    assert found.unknown == 0
    monkeypatch.setattr(pretrained, "locate", lambda model: loads() if not pretrained._shapes_only.get() else model)
    simulated = plan_batches(config, ranks=2, workers=3, epochs=2)
    assert simulated.faults == []
    assert (simulated.examples, simulated.steps) == (len(wanted), [len(wanted) // 4] * 2)
    assert (simulated.rows.least, simulated.rows.most) == (4, 4)
    assert simulated.left_over.most == len(wanted) % 4
    with pytest.raises(DataError, match="answers are not there"):
        KeptLLM("x", 5).answer([])


def test_a_plan_takes_the_answers_of_its_own_llm_before_later_ones(config_of: ConfigOf, tmp_path: Path) -> None:
    there = config_of(tmp_path)
    shutil.copytree(there.data_dir, tmp_path / "data")
    config = replace(there, data_dir=str(tmp_path / "data"))
    own = answers_folder(config, "train", imitate.text_llm(config).key)
    other = shutil.copytree(own, own.with_name("another"))
    wanted = read_manifest(config, LOSSES.build(config.loss)).examples
    store = other / "store.jsonl"
    rows = [json.loads(line) for line in store.read_text().splitlines()]
    store.write_text("".join(json.dumps({**row, "answer": "quite another thing"}) + "\n" for row in rows))
    (other / "card.json").write_text(json.dumps({"model": "another"}))
    for seconds in (0, 9):  # whichever is the latest
        os.utime(store, (2e9 + seconds, 2e9 + seconds))
        os.utime(own / "store.jsonl", (2e9, 2e9))
        assert read_manifest(config, LOSSES.build(config.loss)).examples == wanted


def test_without_answers_they_are_reckoned_at_their_most(config_of: ConfigOf, tmp_path: Path) -> None:
    there = config_of(tmp_path)
    shutil.copytree(there.data_dir, tmp_path / "data", ignore=shutil.ignore_patterns("answers"))
    config = replace(there, data_dir=str(tmp_path / "data"))
    loss = LOSSES.build(config.loss)
    found = read_manifest(config, loss)
    assert found.unknown == config.imitate.max_new_tokens
    assert "answers are not there" in found.notes[0]
    known = read_manifest(there, loss)
    assert {(e.id, e.prompt) for e in known.examples} <= {(e.id, e.prompt) for e in found.examples}
    by_cost = replace(config, train=replace(config.train, batch_tokens=300))
    assert plan_batches(by_cost, ranks=1, workers=0, epochs=1).faults == []


def test_without_a_tokenizer_characters_are_counted(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path)

    def missing(_: Config) -> None:
        raise OSError("no such file")

    monkeypatch.setattr(manifests, "chat_tokenizer", missing)
    found = plan_batches(config, ranks=1, workers=0, epochs=1)
    assert "4 characters" in found.notes[0]
    assert found.faults == []


class Twice(StepOrder):
    """Gives every rank what the first has."""

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> list[Share]:
        return super().__call__(step, 0, world)


class Full(StepOrder):
    """Takes no heed of what a forward pass may cost."""

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> list[Share]:
        return [Share([row for share in super().__call__(step, rank, world) for row in share.rows])]


class Short(StepOrder):
    """Forgets the last step of an epoch."""

    def steps_of(self, epoch: int) -> range:
        return super().steps_of(epoch)[:-1]


@pytest.mark.parametrize(
    ("order", "faults"),
    [
        (StepOrder, []),
        (Twice, ["seen more than once: example", "seen by no rank: example"]),
        (Full, ["a forward pass of", "more than 40"]),
        (Short, ["examples are in no step, not 0"]),
    ],
)
def test_what_is_wrong_is_found(order: type[StepOrder], faults: list[str]) -> None:
    found = simulate(order(50, lambda *_: COSTS, 8, 0, 1, Budget(150, 40)), ranks=2, workers=3, epochs=2)
    told = "\n".join(found.faults)
    assert all(fault in told for fault in faults)
    assert bool(told) == bool(faults)


def test_the_figures_are_those_of_the_batches() -> None:
    costs = [10, 10, 10, 40]
    found = simulate(StepOrder(4, lambda *_: costs, 4, 2, 1), ranks=1, workers=0, epochs=1)
    assert (found.rows.mean, found.passes.mean, found.cost.total) == (4, 2, 100)
    assert found.padding == pytest.approx(1 - 70 / 100)
    assert found.imbalance == 0
    ranks = simulate(StepOrder(4, lambda *_: costs, 4, 0, 1, Budget(200)), ranks=2, workers=0, epochs=1)
    assert (ranks.padding, ranks.waited, ranks.idle) == (0, 10, 0)
    assert ranks.imbalance == pytest.approx(10 / 80)
    idle = simulate(StepOrder(4, lambda *_: costs, 4, 0, 1, Budget(30)), ranks=4, workers=0, epochs=1)
    assert idle.idle == 4
    assert idle.faults == []


def test_the_command_reports_and_its_status_tells(
    config_of: ConfigOf, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["plan", "batches", *words_of(config_of(tmp_path)), "train.batch_tokens=400", "--ranks", "2"]
    assert main([*words, "--workers", "2"]) == 0
    page = capsys.readouterr().out
    for told in ("2 ranks, 2 workers", "rows of a step", "steps an epoch", "padding is", "once"):
        assert told in page
    assert main([*words, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["faults"] == []
    assert figures["cost"]["most"] <= 400
    assert 0 <= figures["padding"] < 0.5
    monkeypatch.setattr("toolkit.plan.batches.StepOrder", Twice)
    assert main(words) == 1
    assert "FAULT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--ranks", "3"], "does not divide among 3"),
        (["--ranks", "0"], "at least 1"),
        (["--workers", "-1"], "at least"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    more: list[str], message: str, config_of: ConfigOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "batches", *words_of(config_of(tmp_path)), *more]) == 2
    assert message in capsys.readouterr().err


def test_an_utterance_that_is_asked_the_same_twice_is_a_fault(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path)
    found = read_manifest(config, LOSSES.build(config.loss))
    doubled = replace(found, examples=[*found.examples, found.examples[0]])
    monkeypatch.setattr("toolkit.plan.batches.read_manifest", lambda *_: doubled)
    assert "twice in the manifest" in plan_batches(config, ranks=1, workers=0, epochs=1).faults[0]
    monkeypatch.setattr("toolkit.plan.batches.read_manifest", lambda *_: replace(found, examples=[]))
    with pytest.raises(DataError, match="nothing to train on"):
        plan_batches(config, ranks=1, workers=0, epochs=1)


def test_by_cost_the_plan_of_memory_goes_by_positions(config_of: ConfigOf, tmp_path: Path) -> None:
    from toolkit.plan.plan import Question, make_plan

    rows = make_plan(config_of(tmp_path), Question())
    cost = make_plan(config_of(tmp_path, "train.batch_tokens=1000"), Question(gpus=3))
    longest, mean = cost.rows.longest.tokens, cost.rows.mean.tokens
    assert rows.together == 4
    assert cost.together == max(1, 334 // longest)
    assert cost.work is not None
    assert cost.work.steps_per_epoch == cost.work.examples // (1000 // mean)
    with pytest.raises(ConfigError, match="does not divide"):
        make_plan(config_of(tmp_path), Question(gpus=3))


LIKE_LIBRISPEECH = "egs=librispeech/conf/librispeech", "whisper.window=true_length"


@pytest.mark.parametrize("recipe", ["recipes=mtbi", "recipes=mtbi adapter=stack cut=frames", "recipes=inserter"])
@pytest.mark.parametrize(
    "settings",
    [
        "train.batch_tokens=6000 train.micro_batch_tokens=0",
        "train.batch_size=16 train.micro_batch_tokens=1280",
        "train.batch_size=256 train.micro_batch_size=8",
    ],
)
def test_little_of_an_interleaved_epoch_like_librispeech_is_padding(
    recipe: str, settings: str, tiny_llm: Path, tiny_whisper: Path
) -> None:
    """A third of the rows of MTBI are interleaved, and more of InSerter's."""
    models = f"whisper.model={tiny_whisper}", f"decoder.model={tiny_llm}"
    config = compose_config([*recipe.split(), *LIKE_LIBRISPEECH, *models, *settings.split()])
    found = plan_batches(config, ranks=2, workers=2, epochs=1, like_librispeech=2000)
    assert found.faults == []
    assert "2,000 utterances are made up" in found.notes[-1]
    assert found.padding <= 0.03


def test_reckoned_as_plain_speech_mixed_rows_would_be_padded(tiny_llm: Path, tiny_whisper: Path) -> None:
    words = f"recipes=inserter whisper.model={tiny_whisper} decoder.model={tiny_llm}".split()
    config = compose_config([*words, *LIKE_LIBRISPEECH])
    loss, model, views = LOSSES.build(config.loss), model_without_weights(config), views_of(config)
    manifest = librispeech_like(config, loss, 2000)
    costs = costs_of(manifest.examples, model, manifest.tokenizer, loss, views)
    assert isinstance(costs, DrawnCosts)

    def padding(chosen_by: Costs) -> float:
        order, real = StepOrder(len(manifest.examples), chosen_by, 16, 0, 1, Budget(6000)), costs(0, 0)
        ran = [share.rows for step in order.steps_of(0) for share in order(step) if not share.idle]
        return 1 - sum(real) / sum(padded_cost(real, rows) for rows in ran)

    assert padding(costs) <= 0.03
    assert padding(lambda *_: costs.plain) > 0.1


def test_made_up_utterances_are_like_librispeech(tiny_llm: Path) -> None:
    config = compose_config(["recipes=mtbi", *LIKE_LIBRISPEECH, f"decoder.model={tiny_llm}"])
    loss = LOSSES.build(config.loss)
    manifest = librispeech_like(config, loss, 2000)
    said = {example.id: example for example in manifest.examples}
    seconds = [example.duration for example in said.values()]
    assert len(said) == 2000 == len(manifest.examples) / config.imitate.tasks_per_cut
    assert sum(seconds) / 2000 == pytest.approx(12.3, abs=0.2)
    assert max(seconds) == config.prepare.max_duration
    assert sum(len(e.words) for e in said.values()) / sum(seconds) == pytest.approx(2.7, abs=0.05)
    for example in said.values():
        assert example.words[0].start == 0
        assert example.words[-1].end == pytest.approx(example.duration)
        assert " ".join(word.text for word in example.words) == example.transcript
    assert all(example.response and "{speech}" in example.prompt for example in manifest.examples)
    assert manifest.examples == librispeech_like(config, loss, 2000).examples
    with pytest.raises(ConfigError, match="1 or more, not 0"):
        librispeech_like(config, loss, 0)


def test_without_a_decoder_made_up_utterances_are_heard_once_and_as_copies(tiny_llm: Path) -> None:
    words = f"recipes=mtbi loss=ctc adapter=ctc encode.copies=1 decoder.model={tiny_llm}".split()
    config = compose_config([*words, *LIKE_LIBRISPEECH])
    examples = librispeech_like(config, LOSSES.build(config.loss), 50).examples
    assert len({example.id for example in examples}) == len(examples) > 50
    assert not any(example.response for example in examples)
