"""Each side of the benchmarks on tiny models: what must be equal is, whatever the timings."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import profiling
from benchmarks.cases.compile import APART, Found
from benchmarks.cases.generate import asked
from benchmarks.cases.ranks import apart, curve
from benchmarks.options import Options
from benchmarks.sides import compiled, equal, limit, ours, peer, usual
from benchmarks.workload import Spec, Workload, folder
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.errors import DataError


def test_our_gradient_is_that_of_the_usual_loop(spec: Spec) -> None:
    found = equal.gradients(spec, [0, 1, 2, 3])
    cosine, norm = found["ours fp32"]
    assert cosine >= 0.9999
    assert norm == pytest.approx(1, abs=1e-3)
    # bf16 rounds, and the comparison notices it; it stays the same direction.
    assert 0.9 < found["ours bf16"][0] < 0.999999
    assert found["usual bf16"][0] > 0.9
    assert found["usual autocast"][0] > 0.9


def test_a_gradient_of_other_rows_is_another(spec: Spec) -> None:
    work = Workload.of(spec)
    some, others = (equal.our_gradient(work, spec, rows) for rows in ([0, 1], [4, 5]))
    assert equal.likeness(some, others)[0] < 0.99


def test_the_loss_of_the_peer_is_ours(spec: Spec) -> None:
    found = equal.losses(spec, [0, 1, 2])
    assert found["loss of ours"] == pytest.approx(found["loss of the peer"], abs=1e-4)


def test_the_peer_trains_its_projector_and_nothing_else(spec: Spec) -> None:
    model = peer.voxtral(Workload.of(spec).model, 0)
    assert model.model.language_model.config._attn_implementation == "sdpa"  # as it is published
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {f"model.multi_modal_projector.linear_{i}.weight" for i in (1, 2)}


def test_the_usual_loop_attends_as_it_is_published_and_ours_as_before_then(spec: Spec) -> None:
    work = Workload.of(spec)
    lm: Any = work.model.decoder.lm
    own, seen = lm.config._attn_implementation, []
    lm.register_forward_pre_hook(lambda *_: seen.append(lm.config._attn_implementation))
    usual.UsualLoop(work.model).loss(work.samples([0]), work.sequences[:1])
    assert seen == ["sdpa"]
    assert lm.config._attn_implementation == own == "short_rows"


def test_the_peer_refuses_an_adapter_that_is_not_its_own(spec: Spec) -> None:
    other = replace(spec, overrides=(*spec.overrides, "adapter.factor=4"))
    with pytest.raises(DataError, match=r"adapter\.factor=2"):
        peer.voxtral(Workload.of(other).model, 0)


def test_tokens_are_those_of_one_by_one(source: Path, work: Path, tiny_overrides: tuple[str, ...]) -> None:
    options = Options(source, work, work, utterances=6, batch=4, overrides=tiny_overrides)
    asking = asked(options)
    assert len(asking.questions) == 12
    alone, together = asking.one_by_one(), asking.together()
    assert together == alone
    assert any(alone.values())


def test_ours_counts_what_the_limit_must_multiply(spec: Spec, tmp_path: Path) -> None:
    turn = ours.run(spec)
    assert turn.utterances == spec.batch * spec.steps
    assert len(turn.losses) == spec.steps + 1
    assert turn.seconds > 0
    assert turn.before > 0
    assert turn.peak > 0.9 * turn.before  # Linux counts them apart, and by the way
    needed = limit.Needed(*turn.extra["needed"][0])
    assert 0 < needed.supervised < needed.positions
    assert 0 < needed.rows <= spec.batch
    assert needed.before > 0
    assert 0 <= turn.extra["padding"] < 1
    assert 0 <= turn.extra["outside"] < 1
    (tmp_path / "needed.json").write_text(json.dumps({**turn.extra, "utterances": turn.utterances}))
    bound = limit.run(replace(spec, needed=str(tmp_path / "needed.json")))
    assert bound.utterances == turn.utterances
    assert bound.seconds > bound.extra[limit.ATTENTION] > 0


def test_prefixes_are_counted_once_where_they_are_the_same() -> None:
    assert ours.distinct_tokens({(1, 2, 3), (1, 2, 4), (1,), ()}) == 4


def test_products_are_those_of_linear_layers_forward_and_backward() -> None:
    weights = [torch.ones(5, 3), torch.ones(2, 5)]
    found = limit.products(weights, 7, limit.Buffers(torch.float32), backward=True)
    assert [(a.shape, b.shape, tuple(out.shape)) for a, b, out in found] == [
        ((7, 3), (3, 5), (7, 5)),
        ((7, 5), (5, 2), (7, 2)),
        ((7, 2), (2, 5), (7, 5)),
        ((7, 5), (5, 3), (7, 3)),
    ]
    assert len(limit.products(weights, 7, limit.Buffers(torch.float32), backward=False)) == 2
    limit.multiply(found)
    assert limit.products(weights, 0, limit.Buffers(torch.float32), backward=True) == []


def test_products_of_attention_are_six_a_layer() -> None:
    """Four queries in two groups of width 3; two rows of 5 positions behind 7, of which no gradient is asked."""
    heads, buffers = limit.Heads(4, 2, 3), limit.Buffers(torch.float32)
    found = limit.attention(heads, 2, 5, 5, 7, buffers)
    assert [(*a.shape[1:], b.shape[2]) for a, b, _ in found] == [
        (10, 3, 12), (10, 12, 3),  # scores, what is seen
        (5, 10, 3), (10, 3, 12), (10, 12, 3), (5, 10, 3),  # gradients on values, weights, queries, keys
    ]  # fmt: skip
    assert all(len(a) == len(b) == len(out) == 4 for a, b, out in found)
    limit.multiply(found)
    assert limit.attention(heads, 2, 0, 5, 7, buffers) == []


def test_the_last_layer_is_multiplied_where_it_is_asked(tiny_llm: Path) -> None:
    lm = CausalLMDecoder(model=str(tiny_llm)).lm
    layers, buffers = limit.Layers(lm), limit.Buffers(torch.float32)
    linears = [module for module in lm.base_model.modules() if isinstance(module, torch.nn.Linear)]
    assert len(layers.asked) == 5  # queries, their output, and three of the MLP
    assert len(layers.whole) + len(layers.asked) == len(linears)
    found = layers.linear(limit.Needed(90, 20, 3, 12), buffers)
    rows = [a.shape[0] for a, _, _ in found]
    assert (rows.count(90), rows.count(20)) == (2 * len(layers.whole), 2 * 6)  # with the output matrix


def test_the_usual_loop_and_the_peer_learn(source: Path, work: Path, tiny_overrides: tuple[str, ...]) -> None:
    data = folder(source, work, 2, tiny_overrides)
    every = Spec(str(data), batch=4, steps=2, overrides=tiny_overrides)  # all rows in every step
    for side in (usual, peer):
        turn = side.run(every)
        assert turn.utterances == 8
        first, _, last = turn.losses
        assert last < first, side.__name__


def test_answers_have_the_length_that_is_asked(source: Path, work: Path, tiny_overrides: tuple[str, ...]) -> None:
    given = (*tiny_overrides, "imitate.use=[continue]", "imitate.tasks_per_cut=1")
    lengths = []
    for response in (4, 8):
        data = folder(source, work, 4, given, response)
        rows = Workload.of(Spec(str(data), overrides=given)).examples
        assert len(rows) == 4
        lengths.append({len(row.response.split()) for row in rows})
    assert lengths == [{4}, {8}]


def test_unprepared_data_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run\.sh --stop-stage 4"):
        folder(tmp_path, tmp_path / "work", 4)


def test_more_utterances_than_there_are(source: Path, tmp_path: Path, tiny_overrides: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="holds 10 utterances, and 11 are wanted"):
        folder(source, tmp_path, 11, tiny_overrides)


def test_curves_that_differ_are_told_apart(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    curves = []
    for number, loss in enumerate((2.0, 3.0)):
        exp = tmp_path / str(number)
        (exp / "checkpoint").mkdir(parents=True)
        save_file({"w": torch.tensor([2.0, -4.0 + number])}, exp / "checkpoint/trainable.safetensors")
        rows = [{"seconds": 1.0, "loss": 3.0}, {"seconds": 1.0, "validation": {}}, {"seconds": 4.0, "loss": loss}]
        (exp / "train_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        curves.append(curve(exp))
    assert curves[0].seconds == 3.0
    losses, weights = apart(*curves)
    assert losses == 0.5
    assert weights == pytest.approx(0.25)
    assert apart(curves[0], curves[0]) == (0.0, 0.0)


@pytest.mark.usefixtures("compiler")
def test_steps_are_the_same_compiled_and_their_times_are_told(tiny_overrides: tuple[str, ...]) -> None:
    turn = compiled.run(Spec("-", batch=2, steps=3, overrides=tiny_overrides))
    assert turn.utterances == 6
    assert 0 <= turn.extra["apart"] < APART
    assert [len(turn.extra[side]) for side in ("plain", "compiled")] == [3, 3]
    assert turn.extra["first"] > 0


def test_compiling_is_paid_for_by_the_steps_that_are_faster() -> None:
    assert Found(seconds=30.0, again=5.0, plain=2.5, compiled=2.0, apart=0.0).steps == 60
    assert Found(seconds=30.0, again=5.0, plain=2.0, compiled=2.0, apart=0.0).steps == math.inf


def test_the_profile_tells_kinds_of_work(spec: Spec) -> None:
    text, kinds = profiling.page(profiling.profiled(spec), spec)
    assert sum(kinds.values()) == pytest.approx(1)
    assert kinds["matrix products"] > 0
    assert "| `aten::mm` |" in text
