from pathlib import Path

import pytest
import torch

from toolkit.data.answers import Answer, AnswerStore, Question
from toolkit.data.features import FrameCache
from toolkit.data.fingerprint import fingerprint
from toolkit.data.order import batch_indices
from toolkit.errors import DataError, StaleCacheError

QUESTIONS = [Question("Say: {speech}", f"text {'x' * i}\u2028") for i in range(7)]


def shout(questions: list[Question]) -> list[Answer]:
    return [Answer(q.text.upper(), True) for q in questions]


def test_nothing_is_generated_twice(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, 8)
    assert sum(store.fill([*QUESTIONS, *QUESTIONS], shout, 3)) == 7  # type: ignore[arg-type]
    again = AnswerStore(tmp_path, 8)
    assert again.missing(QUESTIONS) == []
    assert again.get(QUESTIONS[3]) == Answer("TEXT XXX\u2028", True)
    assert AnswerStore(tmp_path, 9).get(QUESTIONS[3]) is None  # another length limit is another answer


def test_an_interrupted_fill_goes_on(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, 8)
    next(iter(store.fill(QUESTIONS, shout, 3)))  # type: ignore[arg-type]
    with store.path.open("a") as file:
        file.write('{"key": "cut in the mid')
    again = AnswerStore(tmp_path, 8)
    assert len(again.missing(QUESTIONS)) == 4
    list(again.fill(QUESTIONS, shout, 3))  # type: ignore[arg-type]
    assert AnswerStore(tmp_path, 8).missing(QUESTIONS) == []


def test_frames_round_trip_in_fp16_and_shards_resume(tmp_path: Path) -> None:
    frames = {f"u{i}": torch.randn(3 + i, 4) for i in range(5)}
    cache = FrameCache(tmp_path, "abc")
    for done in cache.write(frames.items(), 2, {}):
        if done == 3:
            break  # interrupted: the shard that was open is lost, the whole one stays
    cache = FrameCache(tmp_path, "abc")
    assert [name for name in frames if name in cache] == ["u0", "u1"]
    list(cache.write(((n, f) for n, f in frames.items() if n not in cache), 2, {}))
    cache = FrameCache(tmp_path, "abc")
    assert len(cache) == 5
    torch.testing.assert_close(cache["u4"], frames["u4"].half().float())


def test_frames_of_another_encoder_are_refused(tmp_path: Path) -> None:
    list(FrameCache(tmp_path, "old").write([("u", torch.zeros(2, 2))], 1, {}))
    with pytest.raises(StaleCacheError, match=r"other encoders \(old\).*toolkit encode"):
        FrameCache(tmp_path, "new")["u"]


def test_a_fingerprint_changes_with_weights_and_options_but_not_with_precision() -> None:
    torch.manual_seed(0)
    module = torch.nn.Linear(30, 30)
    mark = fingerprint({"window": "padded"}, module)
    assert fingerprint({"window": "true_length"}, module) != mark
    assert fingerprint({"window": "padded"}, module.to(torch.bfloat16)) == mark
    assert fingerprint({"window": "padded"}, torch.nn.Linear(30, 30)) != mark


def test_every_example_comes_once_an_epoch_and_the_order_is_a_function_of_seed_and_step() -> None:
    costs = [float(i % 13) for i in range(96)]
    for epoch in range(2):
        steps = [batch_indices(costs, 8, 12 * epoch + step, seed=1) for step in range(12)]
        assert sorted(i for step in steps for i in step) == list(range(96))
    assert batch_indices(costs, 8, 5, 1) == batch_indices(costs, 8, 5, 1)
    assert batch_indices(costs, 8, 5, 1) != batch_indices(costs, 8, 17, 1)
    assert batch_indices(costs, 8, 5, 1) != batch_indices(costs, 8, 5, 2)


def test_no_examples_is_an_error() -> None:
    with pytest.raises(DataError, match="imitate stage"):
        batch_indices([], 8, 0, 1)
