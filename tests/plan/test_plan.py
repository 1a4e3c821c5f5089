"""`toolkit plan`: its numbers are those of the model that is really built, and those that the data really have."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit.cli import main
from toolkit.config import Config, compose_config
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.errors import ConfigError
from toolkit.interfaces import ADAPTERS, LOSSES, TokenAdapter
from toolkit.models.build import build_model
from toolkit.models.speech_llm import SpeechLLM
from toolkit.plan.held import held_for_backward
from toolkit.plan.memory import Item, total
from toolkit.plan.plan import Plan, Question, make_plan
from toolkit.stages import imitate, train
from toolkit.stages.encode import encoder_training
from toolkit.testing.tiny import tiny_llm as make_llm
from toolkit.types import LossInputs, Padded, SpanOutputs

ConfigOf = Callable[..., Config]
FULL = ["egs=librispeech/conf/full", "exp_dir=x"]


def planned(config: Config, **question: Any) -> Plan:
    return make_plan(config, Question(**question))


def item(plan: Plan, what: str, stage: str = "train") -> Item:
    (found,) = [item for item in plan.memory[stage] if item.what == what]
    return found


def really_built(config: Config) -> SpeechLLM:
    decoder = {**config.decoder, "dtype": config.train.decoder_dtype or config.decoder["dtype"]}
    return build_model(config.encoder, config.adapter, decoder, config.cut, config.seed, encoder_training(config))


BUILT: list[tuple[list[str], dict[str, Any]]] = [
    ([], {"name": "stack", "hidden_dim": 16}),
    (["train.decoder_dtype=bf16"], {"name": "pool_linear"}),
    (["decoder=lora", "train.decoder_dtype=bf16", "train.encoder=lora"], {"name": "conv"}),
    (["train.encoder=full"], {"name": "ctc", "hidden_dim": 32}),
    ([], {"name": "windowed_qformer", "hidden_dim": 24, "heads": 2}),
]


@pytest.mark.parametrize(("more", "adapter"), BUILT)
def test_sizes_are_those_of_the_model_that_is_built(
    more: list[str], adapter: dict[str, Any], config_of: ConfigOf, tmp_path: Path
) -> None:
    config = replace(config_of(tmp_path, *more), adapter=adapter)
    plan, model = planned(config), really_built(config)
    for part, module in zip(plan.parts, (model.encoder, model.adapter, model.decoder), strict=True):
        assert part.trained == sum(p.numel() for p in module.parameters() if p.requires_grad)
        assert part.frozen == sum(p.numel() for p in module.parameters() if not p.requires_grad)
        assert part.weights == sum(p.numel() * p.element_size() for p in module.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    assert item(plan, "gradients").bytes == trained
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    optimiser.step()
    states = [s for state in optimiser.state.values() for s in state.values() if s.dim()]
    assert abs(item(plan, "AdamW").bytes - sum(s.numel() * s.element_size() for s in states)) <= 0.01 * 2 * trained


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_activations_of_the_decoder_are_about_what_autograd_holds(
    dtype: str, config_of: ConfigOf, tmp_path: Path
) -> None:
    folder = make_llm(tmp_path / "llm", width=128, layers=4)
    config = config_of(tmp_path, f"decoder.model={folder}", f"decoder.dtype={dtype}", "train.batch_size=4")
    plan = planned(config)
    decoder = CausalLMDecoder(model=str(folder), dtype=dtype)
    rows = [
        torch.randn(plan.rows.longest.tokens, 128, dtype=next(decoder.parameters()).dtype).requires_grad_()
        for _ in range(4)
    ]
    # All positions: of few, the last layer would hold less. Their scores are not the layers'.
    asked = [torch.arange(len(row)) for row in rows]
    held = held_for_backward(decoder, lambda: decoder._hidden(rows, asked, (), ()))
    assert 1 < item(plan, "activations: decoder").bytes / held < 1.5


OPTIONS = {"multilayer_qformer": {"taps": 2}, "time_layer": {"taps": 2}}
COUNTED = ("stack", "pool_linear", "qformer", "multilayer_qformer", "time_layer", "whisper_decoder_qformer")
"""adapters that run without values"""


@pytest.mark.parametrize("name", [*COUNTED, "conv", "windowed_qformer", "cif"])
def test_activations_of_an_adapter_are_those_that_autograd_holds(
    name: str, config_of: ConfigOf, tmp_path: Path
) -> None:
    config = config_of(tmp_path, "prepare.max_duration=6", "train.batch_size=2")
    plan = planned(replace(config, adapter={"name": name, **OPTIONS.get(name, {})}, cut="frames"))
    adapter = ADAPTERS.build({"name": name, **OPTIONS.get(name, {})}, 32, 32).train()
    frames = Padded(torch.randn(2, 300, 32), torch.full((2,), 300))
    said = item(plan, "activations: adapter")
    ratio = said.bytes / held_for_backward(adapter, lambda: adapter(frames))
    assert ("counted" in said.how) == (name in COUNTED)
    assert 0.95 < ratio < (2.5 if name in COUNTED else 20)  # attention holds more where it has no kernel of its own


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_activations_of_a_trained_encoder_are_about_what_autograd_holds(
    mode: str, config_of: ConfigOf, tmp_path: Path
) -> None:
    config = config_of(tmp_path, "encoder.window=padded", f"train.encoder={mode}", "train.batch_size=2")
    encoder = really_built(config).encoder
    audio = Padded(torch.randn(2, 480000), torch.full((2,), 480000))
    held = held_for_backward(encoder, lambda: encoder(audio))
    assert 0.8 < item(planned(config), "activations: encoder").bytes / held < 2.5


def test_label_scores_are_those_that_autograd_holds_and_a_gradient(config_of: ConfigOf, tmp_path: Path) -> None:
    config = config_of(tmp_path, "train.batch_size=2")
    config = replace(config, adapter={"name": "ctc", "hidden_dim": 16, "heads": 2, "layers": 1})
    adapter, labels = really_built(config).adapter, 355  # all of the tiny LLM's vocabulary
    assert isinstance(adapter, TokenAdapter)
    frames = Padded(torch.randn(2, 1500, 32), torch.tensor([1500, 1500]))
    targets = Padded(torch.randint(1, 5, (2, 50)), torch.tensor([50, 50]))

    def step() -> object:
        spans = SpanOutputs(adapter.token_logits(frames), targets, None)
        return adapter(frames), LOSSES.build({"name": "ctc"})(LossInputs(torch.zeros(0).long(), spans=spans))

    held = []
    for count in (5, labels):
        adapter.attach(torch.arange(count), torch.randn(count, 32))
        held.append(held_for_backward(adapter, step))
    plan, scores = planned(config), 2 * 375 * labels * 4
    assert item(plan, "label scores").bytes == 7 * scores
    assert 3.5 < (held[1] - held[0]) / scores < 6.2  # the fewer, the more steps are blank
    table = [adapter.get_buffer(name) for name in ("_embeddings", "_directions")]
    assert item(plan, "adapter's tokens").bytes == sum(t.nbytes for t in table)


def test_what_is_prepared_is_counted_and_trained(config_of: ConfigOf, tmp_path: Path) -> None:
    config = config_of(tmp_path, "train.batch_size=3")
    plan = planned(config)
    assert plan.work is not None
    llm = imitate.text_llm(config)
    examples = train.training_examples(config, llm, LOSSES.build(config.loss))
    assert plan.there["train"].utterances == 10
    assert plan.work.examples == pytest.approx(len(examples), abs=2)  # an empty answer is left out
    assert plan.work.steps_per_epoch == plan.work.examples // 3
    counts = imitate.run(config)
    assert plan.work.answers == {
        **counts,
        "train": pytest.approx(counts["train"], abs=4),
    }  # by chance, some are asked more
    frames = sum(p.stat().st_size for p in Path(config.data_dir).rglob("frames/*/*.safetensors"))
    assert plan.work.cache == pytest.approx(frames, rel=0.1)


def test_librispeech_is_known_before_it_is_there() -> None:
    plan = planned(compose_config(["recipes=mtbi", *FULL]), rate=5000)
    amount, work = plan.there["train"], plan.work
    assert (amount.hours, amount.utterances) == (960.9, 281_241)
    assert work is not None
    assert (work.examples, work.steps_per_epoch) == (2 * 281_241, 2 * 281_241 // 768)
    assert work.cache == round((960.9 + 5.4 + 5.4) * 3600 / 0.02) * 1280 * 2
    assert plan.answering_hours == pytest.approx(work.answer_tokens / 5000 / 3600)
    assert plan.together == 8
    warm = planned(compose_config(["recipes=warm_start", *FULL]))
    assert warm.work is not None
    assert (warm.work.examples, warm.rows.longest.tokens, warm.work.answers) == (281_241, 0, {})
    assert "logits" not in [each.what for each in warm.memory["train"]]
    part = planned(compose_config(["recipes=mtbi", *FULL, "prepare.max_utterances=1000"])).there
    assert part["train"].utterances == part["test"].utterances == 1000


@pytest.mark.parametrize(
    ("adapter", "rate"),
    [("stack", 10.0), ("conv", 6.25), ("pool_linear", 25.0), ("windowed_qformer", 50 / 17), ("ctc", 12.5)],
)
def test_embeddings_a_second_follow_the_adapter(adapter: str, rate: float) -> None:
    plan = planned(compose_config(["recipes=qwen_audio", *FULL, f"adapter={adapter}"]))
    assert plan.rows.frame_rate == 50
    assert plan.rows.rate == pytest.approx(rate, abs=0.1)
    assert plan.rows.longest.frames == 1500
    assert plan.rows.longest.embeddings == pytest.approx(30 * rate, abs=1)
    assert plan.rows.exact == (adapter != "ctc")


def test_memory_goes_with_what_decides_it() -> None:
    def of(*more: str, **question: Any) -> Plan:
        return planned(compose_config(["recipes=mtbi", *FULL, *more]), **question)

    plan = of()
    assert total(plan.memory["train"]) == sum(each.bytes for each in plan.memory["train"])
    assert (
        item(of("train.micro_batch_size=4"), "activations: decoder").bytes * 2
        == item(plan, "activations: decoder").bytes
    )
    assert item(of("train.decoder_dtype=fp32"), "weights: decoder").bytes == 2 * item(plan, "weights: decoder").bytes
    assert item(of(gpus=8), "gradients between processes").bytes == item(plan, "gradients").bytes
    assert of("train.micro_batch_size=0", gpus=8).together == 96
    entropy = of("loss=cross_entropy")
    assert item(entropy, "logits").bytes < item(plan, "logits").bytes
    layers, heads, width = 28, 4, 128  # Qwen2.5-7B's
    kept = item(plan, "keys and values", "imitate").bytes
    assert kept % (256 * layers * 2 * heads * width * 2) == 0
    small = of("decoder=lora", "decoder.quantise=nf4")
    assert 0.2 < item(small, "weights: decoder").bytes / item(plan, "weights: decoder").bytes < 0.45


def test_what_does_not_fit_is_warned_of_by_stage() -> None:
    config = compose_config(["recipes=mtbi", *FULL])
    assert planned(config, gpu_memory=80).warnings == ()
    (first, *_) = planned(config, gpu_memory=24).warnings
    assert first.startswith("train needs about ")
    assert "train.micro_batch_size" in first


def test_what_nobody_knows_is_said() -> None:
    config = compose_config(["recipes=qwen_audio", "egs=speechocean762/conf/speechocean762", "exp_dir=x"])
    config = replace(config, data_dir="nowhere")
    plan = planned(config)
    assert plan.work is None
    assert any("--hours and --utterances" in note for note in plan.notes)
    told = planned(config, hours=2.0, utterances=1000)
    assert told.work is not None
    assert told.rows.mean.seconds == pytest.approx(7.2)


def test_what_could_not_be_trained_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not divide among 7 processes"):
        planned(compose_config(["recipes=mtbi", *FULL]), gpus=7)
    with pytest.raises(ConfigError, match="ctc loss needs an adapter that emits tokens"):
        planned(compose_config(["recipes=warm_start", *FULL, "adapter=stack"]))


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["plan", "recipes=mtbi", "egs=librispeech/conf/full", "--gpus", "8", "--gpu-memory", "24"]
    assert main(asked) == 0
    table = capsys.readouterr().out
    for words in ("openai/whisper-large-v3", "embeddings a second", "AdamW", "steps an epoch", "WARNING: train needs"):
        assert words in table
    assert main([*asked, "--json", "train.steps=5"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [part["part"] for part in plan["parts"]] == ["encoder", "adapter", "decoder"]
    assert plan["work"]["steps"] == 5
    assert plan["memory_total"]["train"] == sum(each["bytes"] for each in plan["memory"]["train"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["recipes=mtbj"], "mtbj"),
        (["recipes=mtbi", "--hours", "3"], "--hours and --utterances go together"),
        (["recipes=mtbi"], "encoder.model has no default"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 2
    assert message in capsys.readouterr().err
