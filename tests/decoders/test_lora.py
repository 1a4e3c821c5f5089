"""LoRA: the law, what is trained, and that the text LLM inside stays what it was, to the bit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from toolkit.config import Config, load_parts
from toolkit.data.answers import Question
from toolkit.data.fingerprint import fingerprint
from toolkit.data.tokenization import ChatTokenizer
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.decoders.lora import LoRADecoder
from toolkit.errors import CheckpointError, ConfigError
from toolkit.interfaces import DECODERS, LOSSES
from toolkit.models.build import build_decoder, build_model
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages import decode, train
from toolkit.stages.hypotheses import read_rows
from toolkit.stages.imitate import text_llm
from toolkit.testing import check_decoder
from toolkit.training.checkpoint import identity, load_checkpoint, save_checkpoint, trainable_state
from toolkit.training.module import ImitationModule
from toolkit.types import Batch, Example, GenerationOptions, Outputs, Padded, SpeechSegment, TextSegment

load_parts()
ConfigOf = Callable[..., Config]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
OPTIONS = GenerationOptions(6, (1,))


def draw(decoder: LoRADecoder) -> LoRADecoder:
    """Give LoRA weights as after some training: all of them have a say."""
    generator = torch.Generator().manual_seed(7)
    trained = decoder.trained()
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if name in trained:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return decoder


class Drawn(LoRADecoder):
    """LoRA on every linear layer, with weights as after some training."""

    def __init__(self, *, model: str, dtype: str = "fp32", audio_only: bool = False) -> None:
        super().__init__(model=model, dtype=dtype, rank=4, alpha=4, targets=ALL, audio_only=audio_only)
        draw(self)


def rows_of(decoder: CausalLMDecoder) -> tuple[list[Tensor], list[Tensor], list[tuple[int, ...]], list[Tensor]]:
    """Return rows, positions, prefixes and audio masks; two of the prefixes are the same and all open alike."""
    heads, speech, rest = [(2, 3, 4, 5), (2, 3, 9), (2, 3, 4, 5)], [3, 5, 1], [4, 2, 6]
    generator = torch.Generator().manual_seed(0)
    rows, positions, audio = [], [], []
    for head, heard, text in zip(heads, speech, rest, strict=True):
        ids = torch.randint(2, decoder.vocabulary_size, (text,), generator=generator)
        sound = torch.randn(heard, decoder.embedding_dim, generator=generator)
        opening, end = decoder.embed(torch.tensor(head)).detach(), decoder.embed(ids).detach()
        rows.append(torch.cat([opening, sound.to(end.dtype), end]))
        positions.append(torch.arange(len(head) + heard, len(rows[-1])))
        audio.append(torch.tensor([False] * len(head) + [True] * heard + [False] * text))
    return rows, positions, heads, audio


@pytest.mark.parametrize("audio_only", [False, True])
def test_it_keeps_the_law_before_and_after_training(
    audio_only: bool, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_decoder("lora", model=str(tiny_llm), audio_only=audio_only)
    monkeypatch.setitem(DECODERS._classes, "drawn", Drawn)
    check_decoder("drawn", model=str(tiny_llm), audio_only=audio_only)


@pytest.mark.parametrize("audio_only", [False, True])
def test_a_batch_with_speech_is_its_rows_alone(audio_only: bool, tiny_llm: Path) -> None:
    decoder = Drawn(model=str(tiny_llm), audio_only=audio_only)
    rows, positions, heads, audio = rows_of(decoder)
    for grad in (False, True):  # prefixes are run once without a gradient
        with torch.set_grad_enabled(grad):
            together = decoder.outputs(rows, positions, heads, audio).logits
            alone = [decoder.outputs([r], [p], (), [a]).logits for r, p, a in zip(rows, positions, audio, strict=True)]
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    tokens = decoder.generate(rows, OPTIONS, heads, audio)
    assert tokens == [decoder.generate([r], OPTIONS, (), [a])[0] for r, a in zip(rows, audio, strict=True)]
    # Training and generation hear the same: the first token is the argmax at the end of the row.
    ends = [torch.tensor([len(row) - 1]) for row in rows]
    first = decoder.outputs(rows, ends, heads, audio).logits.argmax(-1).tolist()
    assert all(answer[:1] == [token] or token == 1 for token, answer in zip(first, tokens, strict=True))


def test_new_lora_changes_nothing_and_the_text_llm_inside_is_the_frozen_one_to_the_bit(tiny_llm: Path) -> None:
    base = CausalLMDecoder(model=str(tiny_llm), keep_prefixes=0)  # LoRA keeps none
    rows, positions, heads, audio = rows_of(base)
    with torch.no_grad():
        expected = base.outputs(rows, positions, heads).logits
    for audio_only in (False, True):
        new = LoRADecoder(model=str(tiny_llm), audio_only=audio_only)
        with torch.no_grad():
            assert torch.equal(new.outputs(rows, positions, heads, audio).logits, expected)
        decoder = Drawn(model=str(tiny_llm), audio_only=audio_only)
        with torch.no_grad(), decoder.as_text_llm():
            with decoder.as_text_llm():
                pass
            assert torch.equal(decoder.outputs(rows, positions, heads, audio).logits, expected)
            assert decoder.generate(rows, OPTIONS, heads, audio) == base.generate(rows, OPTIONS, heads)
        with torch.no_grad():
            assert not torch.allclose(decoder.outputs(rows, positions, heads, audio).logits, expected, atol=1e-2)
        assert all(p.requires_grad == (".lora_" in name) for name, p in decoder.named_parameters())


def test_audio_only_leaves_text_to_the_frozen_llm_to_the_bit(tiny_llm: Path) -> None:
    base, decoder = CausalLMDecoder(model=str(tiny_llm)), Drawn(model=str(tiny_llm), audio_only=True)
    rows, _, _, audio = rows_of(base)
    everywhere = [torch.arange(len(row)) for row in rows]
    with torch.no_grad():
        expected, heard = base.outputs(rows, everywhere).hidden, decoder.outputs(rows, everywhere, (), audio).hidden
        silent = [torch.zeros(len(row), dtype=torch.bool) for row in rows]
        assert torch.equal(decoder.outputs(rows, everywhere).hidden, expected)
        assert torch.equal(decoder.outputs(rows, everywhere, (), silent).hidden, expected)
    before = torch.cat([mask.cumsum(0) == 0 for mask in audio])
    assert torch.equal(heard[before], expected[before])
    assert bool(((heard - expected)[~before].abs().amax(1) > 1e-3).all())  # later text attends to other keys
    # Behind speech too, each layer treats text as the frozen layer does.
    seen: list[tuple[Tensor, Tensor]] = []
    for layer in decoder.layers:
        layer.register_forward_hook(lambda m, inputs, output: seen.append((output, m.base_layer(inputs[0]))))
    with torch.no_grad():
        decoder.outputs(rows, everywhere, (), audio)
    mask = torch.nn.utils.rnn.pad_sequence(audio, batch_first=True)
    assert len(seen) == 2 * len(ALL)
    for output, frozen in seen:
        assert torch.equal(output[~mask], frozen[~mask])
        assert bool(((output - frozen)[mask].abs().amax(1) > 1e-6).all())


@pytest.mark.parametrize("audio_only", [False, True])
def test_shared_prefixes_lose_no_gradient(audio_only: bool, tiny_llm: Path) -> None:
    decoder = Drawn(model=str(tiny_llm), audio_only=audio_only)
    rows, positions, heads, audio = rows_of(decoder)

    def gradients(prefixes: Any, batches: list[list[int]]) -> dict[str, Tensor]:
        decoder.zero_grad()
        for batch in batches:
            r, p, a = ([each[i] for i in batch] for each in (rows, positions, audio))
            given = decoder.outputs(r, p, [prefixes[i] for i in batch] if prefixes else (), a)
            given.logits.log_softmax(-1)[:, 3].sum().backward()
        return {name: p.grad for name, p in decoder.named_parameters() if p.grad is not None}

    shared, alone = gradients(heads, [[0, 1, 2]]), gradients((), [[0], [1], [2]])
    assert shared.keys() == alone.keys() == decoder.trained()
    for name, gradient in alone.items():
        torch.testing.assert_close(shared[name], gradient, atol=1e-4, rtol=1e-3)
        if not (audio_only and "layers.1" in name):  # in the last layer, few hear speech
            assert bool(gradient.abs().sum() > 0)


def test_in_bf16_the_llm_is_bf16_and_lora_fp32(tiny_llm: Path) -> None:
    decoder = Drawn(model=str(tiny_llm), dtype="bf16", audio_only=True)
    base = CausalLMDecoder(model=str(tiny_llm), dtype="bf16")
    assert {p.dtype for name, p in decoder.named_parameters() if ".lora_" in name} == {torch.float32}
    assert {tensor.dtype for tensor in decoder.frozen_state().values()} == {torch.bfloat16}
    rows, _, _, audio = rows_of(base)
    everywhere = [torch.arange(len(row)) for row in rows]
    before = torch.cat([mask.cumsum(0) == 0 for mask in audio])
    with torch.no_grad():
        hidden = decoder.outputs(rows, everywhere, (), audio).hidden
        assert torch.equal(hidden[before], base.outputs(rows, everywhere).hidden[before])


def test_only_the_dropout_of_lora_is_switched_on(tiny_llm: Path) -> None:
    decoder = Drawn(model=str(tiny_llm))
    rows, positions, _, _ = rows_of(decoder)
    with torch.no_grad():
        still = decoder.outputs(rows, positions).logits
        decoder.train()
        assert {m for m in decoder.modules() if m.training} == {
            m for layer in decoder.layers for m in layer.lora_dropout.modules()
        }
        assert not torch.allclose(decoder.outputs(rows, positions).logits, still)
        decoder.eval()
        assert torch.equal(decoder.outputs(rows, positions).logits, still)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank"),
        ({"targets": []}, "targets"),
        ({"dropout": 1.0}, "dropout"),
        ({"quantise": "fp4"}, "nf4, int8 or empty"),
        ({"quantise": "nf4"}, "pip install bitsandbytes"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(options: dict[str, Any], message: str) -> None:
    if options.get("quantise") == "nf4" and torch.cuda.is_available():
        pytest.skip("it can be here")
    with pytest.raises(ConfigError, match=message):
        LoRADecoder(model="nowhere", **options)


def test_a_target_that_the_llm_does_not_have_is_named_with_those_it_has(tiny_llm: Path) -> None:
    with pytest.raises(ConfigError, match=r"'c_attn'.*There are: down_proj, gate_proj, k_proj, o_proj, q_proj, up_p"):
        LoRADecoder(model=str(tiny_llm), targets=["c_attn"])
    with pytest.raises(ConfigError, match="lm_head"):  # the head is not run where it is masked
        LoRADecoder(model=str(tiny_llm), targets=["lm_head"])


def logits(outputs: Outputs | None) -> Tensor:
    assert outputs is not None
    return outputs.logits


def model_of(llm: Path, whisper: Path, seed: int = 0, **decoder: Any) -> SpeechLLM:
    encoder = {"name": "whisper", "model": str(whisper), "window": "true_length"}
    decoder = {"name": "lora", "dropout": 0.0, **decoder} if decoder.get("name") != "causal_lm" else decoder
    return build_model(encoder, {"name": "stack"}, {**decoder, "model": str(llm)}, "embeddings", seed)


def batch_of(llm: Path) -> Batch:
    tokenizer = ChatTokenizer(str(llm), "")
    plans = [(SpeechSegment(0.0, 0.7),), (TextSegment("The quick"), SpeechSegment(0.2, 0.9), TextSegment("fox"))]
    examples = [Example(str(i), 1.2, "The quick fox", (), "Repeat: {speech}", f"answer {i}") for i in range(2)]
    audio = [0.1 * torch.randn(12000 + 4000 * i, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    return Batch(
        ids=("0", "1"),
        sequences=tuple(tokenizer.sequence(e, p) for e, p in zip(examples, plans, strict=True)),
        audio=Padded.of(audio),
        teacher_sequences=tuple(tokenizer.sequence(e, (TextSegment(e.transcript),)) for e in examples),
    )


@pytest.mark.parametrize("audio_only", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "distillation"])
def test_gradients_reach_lora_and_the_adapter_and_nothing_else(
    loss: str, audio_only: bool, tiny_llm: Path, tiny_whisper: Path
) -> None:
    model = model_of(tiny_llm, tiny_whisper, audio_only=audio_only)
    assert isinstance(model.decoder, LoRADecoder)
    draw(model.decoder)
    criterion = LOSSES.build({"name": loss})
    criterion(model.train()(batch_of(tiny_llm), criterion.needs)).total.backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
    lora = {f"decoder.{name}" for name in model.decoder.trained()}
    # What speech asks for in the last layer, nobody who answers hears of.
    unheard = {name for name in lora if audio_only and "layers.1.self_attn.q_proj" in name}
    assert reached == (lora - unheard) | {f"adapter.{name}" for name, _ in model.adapter.named_parameters()}
    assert len(lora) == 2 * 2 * 2  # A and B of q and v of two layers


def test_the_teacher_is_the_llm_without_lora_to_the_bit(tiny_llm: Path, tiny_whisper: Path) -> None:
    needs = frozenset({"student", "teacher"})
    frozen = model_of(tiny_llm, tiny_whisper, name="causal_lm")(batch_of(tiny_llm), needs)
    for audio_only in (False, True):
        model = model_of(tiny_llm, tiny_whisper, audio_only=audio_only)
        assert isinstance(model.decoder, LoRADecoder)
        draw(model.decoder)
        given = model(batch_of(tiny_llm), needs)
        assert torch.equal(logits(given.teacher), logits(frozen.teacher))
        assert not torch.equal(logits(given.student), logits(frozen.student))


def test_the_mark_of_the_decoder_is_that_of_the_llm_alone(tiny_llm: Path, tiny_whisper: Path) -> None:
    model, frozen = model_of(tiny_llm, tiny_whisper), model_of(tiny_llm, tiny_whisper, name="causal_lm")
    assert identity(model) == identity(frozen)
    assert isinstance(model.decoder, LoRADecoder)
    draw(model.decoder)
    assert identity(model) == identity(frozen)
    assert fingerprint({}, model.decoder.frozen_state()) == fingerprint({}, frozen.decoder)


def test_a_seed_draws_lora_and_leaves_the_adapter_as_it_is_beside_another_decoder(
    tiny_llm: Path, tiny_whisper: Path
) -> None:
    one, two, other = (trainable_state(model_of(tiny_llm, tiny_whisper, seed)) for seed in (3, 3, 4))
    adapter = trainable_state(model_of(tiny_llm, tiny_whisper, 3, name="causal_lm"))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items() if "lora_A" in name)
    assert all(torch.equal(tensor, one[name]) for name, tensor in adapter.items())


def test_checkpoints_go_from_a_frozen_llm_to_lora_and_not_back(
    tiny_llm: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    frozen = model_of(tiny_llm, tiny_whisper, name="causal_lm").eval()
    save_checkpoint(frozen, tmp_path / "frozen")
    model = model_of(tiny_llm, tiny_whisper, seed=5).eval()
    load_checkpoint(model, tmp_path / "frozen")
    batch = batch_of(tiny_llm)
    assert model.generate(batch, OPTIONS) == frozen.generate(batch, OPTIONS)
    assert isinstance(model.decoder, LoRADecoder)
    draw(model.decoder)
    save_checkpoint(model, tmp_path / "lora")
    again = model_of(tiny_llm, tiny_whisper, seed=6).eval()
    load_checkpoint(again, tmp_path / "lora")
    with torch.no_grad():
        needs = frozenset({"student"})
        one, two = model(batch, needs).student, again(batch, needs).student
    assert torch.equal(logits(one), logits(two))
    with pytest.raises(CheckpointError, match="nothing of that name"):
        load_checkpoint(frozen, tmp_path / "lora")
    with pytest.raises(CheckpointError, match="shape"):
        load_checkpoint(model_of(tiny_llm, tiny_whisper, rank=2), tmp_path / "lora")
    with pytest.raises(CheckpointError, match="lacks decoder"):
        load_checkpoint(model_of(tiny_llm, tiny_whisper, targets=["q_proj", "v_proj", "o_proj"]), tmp_path / "lora")


def test_training_is_resumed_and_decoded_and_the_llm_stays(
    config_of: ConfigOf, tmp_path: Path, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers are those that the imitate stage drew with causal_lm: the same text LLM."""
    more = ("decoder=lora", "decoder.dropout=0.3", "decode.systems=[speech]", "decode.batch_size=4")
    whole, parts = (config_of(tmp_path / name, *more) for name in ("whole", "parts"))
    models: list[SpeechLLM] = []
    init = ImitationModule.__init__

    def keep(self: Any, model: SpeechLLM, *rest: Any, **options: Any) -> None:
        models.append(model)
        init(self, model, *rest, **options)

    monkeypatch.setattr(ImitationModule, "__init__", keep)
    train.run(whole)
    base = CausalLMDecoder(model=str(tiny_llm)).state_dict()
    state = models[0].decoder.frozen_state()
    assert state.keys() == base.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in base.items())
    question = Question("What is this? {speech}", "She sells sea shells.")
    frozen = text_llm(config_of(tmp_path / "none"))
    inside = text_llm(whole, models[0].decoder)
    assert (inside.key, inside.answer([question])) == (frozen.key, frozen.answer([question]))

    weights = load_file(tmp_path / "whole" / "checkpoint" / "trainable.safetensors")
    mine = {name for name in weights if name.startswith("decoder.")}
    assert mine == {f"decoder.{name}" for name in models[0].decoder.trained()}
    assert all(name.startswith("adapter.") for name in weights.keys() - mine)
    assert all(bool(weights[name].abs().sum() > 0) for name in mine)

    step = ImitationModule.training_step

    def interrupt(self: Any, batches: Any, index: int) -> None:
        if self.global_step == 4:
            raise KeyboardInterrupt
        step(self, batches, index)

    with monkeypatch.context() as patch:
        patch.setattr(ImitationModule, "training_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train.run(parts)
    train.run(parts)
    resumed = load_file(tmp_path / "parts" / "checkpoint" / "trainable.safetensors")
    assert resumed.keys() == weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(resumed[name], tensor, atol=1e-6, rtol=1e-5)
    decode.run(whole)
    rows: list[Any] = read_rows(tmp_path / "whole" / "decode" / "test" / "speech.jsonl")
    assert len(rows) == 2 * 12
    log = (tmp_path / "whole" / "train_log.jsonl").read_text().splitlines()
    assert all("seconds" in json.loads(line) for line in log)


def test_a_decoder_says_what_build_decoder_leaves_trained(tiny_llm: Path) -> None:
    lora = build_decoder({"name": "lora", "model": str(tiny_llm)})
    assert {name for name, p in lora.named_parameters() if p.requires_grad} == lora.trained()
    assert not any(p.requires_grad for p in build_decoder({"name": "causal_lm", "model": str(tiny_llm)}).parameters())


def test_dropout_of_lora_is_on_in_a_training_step(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on: list[bool] = []
    step = ImitationModule.training_step

    def watch(self: Any, batches: Any, index: int) -> None:
        on.extend(layer.lora_dropout["default"].training for layer in self.model.decoder.layers)
        step(self, batches, index)

    monkeypatch.setattr(ImitationModule, "training_step", watch)
    train.run(config_of(tmp_path, "decoder=lora", "train.steps=3"))  # validation in between, too
    assert on
    assert all(on)
