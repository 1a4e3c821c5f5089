"""An encoder that is trained, by LoRA or whole: what changes, what is kept, what is refused, and that nothing leaks."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor

from toolkit.config import Config, compose_config, load_parts
from toolkit.data.augmentation import copies_of, copy_name, distort
from toolkit.data.cuts import load_cut_audio, read_cuts
from toolkit.data.features import FrameCache
from toolkit.data.samples import SampleStore
from toolkit.errors import CheckpointError, ConfigError, DataError
from toolkit.interfaces import LOSSES
from toolkit.models.build import build_encoder, build_model
from toolkit.models.encoder_training import EncoderTraining, own_state
from toolkit.models.speech_llm import SpeechLLM
from toolkit.stages import decode, encode, imitate, train
from toolkit.stages.answer import answer
from toolkit.stages.encode import frame_cache, sample_store
from toolkit.stages.hypotheses import read_rows
from toolkit.stages.paths import as_trained
from toolkit.stages.steps import views_of
from toolkit.testing.tiny import tiny_whisper as make_tiny_whisper
from toolkit.training.checkpoint import identity, load_checkpoint, save_checkpoint, trainable_state
from toolkit.training.module import ImitationModule
from toolkit.types import Batch, Padded, SpeechSegment, TokenPiece

load_parts()
ConfigOf = Callable[..., Config]
TRAINED = ["lora", "full"]
STUDENT = frozenset({"student"})


def lora(**options: Any) -> EncoderTraining:
    return EncoderTraining("lora", **options)


def training(mode: str) -> EncoderTraining:
    return EncoderTraining(mode, dropout=0.3 if mode == "lora" else 0.0)


def model_of(llm: Path, whisper: Path, how: EncoderTraining, seed: int = 0, decoder: str = "causal_lm") -> SpeechLLM:
    encoder = {"name": "whisper", "model": str(whisper), "window": "true_length"}
    return build_model(encoder, {"name": "stack"}, {"name": decoder, "model": str(llm)}, "embeddings", seed, how)


def batch_of(rows: int = 3) -> Batch:
    audio = [0.1 * torch.randn(9000 + 5000 * i, generator=torch.Generator().manual_seed(i)) for i in range(rows)]
    row = (TokenPiece((5, 6, 7)), SpeechSegment(0.0, 0.5), TokenPiece((8, 9)), TokenPiece((10, 11, 12), True))
    return Batch(tuple(map(str, range(rows))), (row,) * rows, audio=Padded.of(audio))


def logits(model: SpeechLLM, batch: Batch) -> Tensor:
    with torch.no_grad():
        student = model(batch, STUDENT).student
    assert student is not None
    result: Tensor = student.logits
    return result


def stir(model: SpeechLLM) -> SpeechLLM:
    """Change what is trained of the encoder, as some training does."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("decoder", ["causal_lm", "lora"])
@pytest.mark.parametrize("mode", ["frozen", *TRAINED])
def test_gradients_reach_exactly_what_is_trained(mode: str, decoder: str, tiny_llm: Path, tiny_whisper: Path) -> None:
    model = model_of(tiny_llm, tiny_whisper, training(mode), decoder=decoder)
    loss = LOSSES.build({"name": "cross_entropy"})
    loss(model(batch_of(), loss.needs)).total.backward()
    names = {name for name, _ in model.encoder.named_parameters()}
    wanted = {"frozen": set(), "lora": {n for n in names if ".lora_" in n}, "full": names}[mode]
    assert {name for name, p in model.encoder.named_parameters() if p.grad is not None} == wanted
    assert len(wanted) == {"frozen": 0, "lora": 2 * 2 * 2, "full": len(list(model.encoder.parameters()))}[mode]
    others = {name for name, p in model.named_parameters() if p.grad is not None and not name.startswith("encoder.")}
    adapter = {f"adapter.{name}" for name, _ in model.adapter.named_parameters()}
    assert others == adapter | {f"decoder.{name}" for name in model.decoder.trained()}
    assert trainable_state(model).keys() == others | {f"encoder.{name}" for name in wanted}


@pytest.mark.parametrize("mode", TRAINED)
def test_before_training_all_is_as_with_a_frozen_encoder(mode: str, tiny_llm: Path, tiny_whisper: Path) -> None:
    frozen = model_of(tiny_llm, tiny_whisper, EncoderTraining(), seed=3, decoder="lora").eval()
    model = model_of(tiny_llm, tiny_whisper, training(mode), seed=3, decoder="lora").eval()
    assert torch.equal(logits(model, batch_of()), logits(frozen, batch_of()))
    assert identity(model) == identity(frozen)
    mine = trainable_state(model)
    assert all(torch.equal(tensor, mine[name]) for name, tensor in trainable_state(frozen).items())
    again = trainable_state(model_of(tiny_llm, tiny_whisper, training(mode), seed=3))
    assert all(torch.equal(tensor, mine[name]) for name, tensor in again.items() if name.startswith("encoder."))


@pytest.mark.parametrize("mode", TRAINED)
def test_a_batch_gives_what_each_row_gives_alone(mode: str, tiny_llm: Path, tiny_whisper: Path) -> None:
    encoder = stir(model_of(tiny_llm, tiny_whisper, training(mode)).eval()).encoder
    rows = batch_of().audio
    assert rows is not None
    with torch.no_grad():
        together = encoder(rows).unpad()
        for row, frames in zip(rows.unpad(), together, strict=True):
            torch.testing.assert_close(frames, encoder(Padded.of([row])).values[0], atol=1e-5, rtol=1e-4)


def test_only_the_dropout_of_lora_is_switched(tiny_llm: Path, tiny_whisper: Path) -> None:
    for mode in ("frozen", *TRAINED):
        model = model_of(tiny_llm, tiny_whisper, training(mode))
        for on in (True, False, True):
            model.train(on)
            live = [name for name, module in model.encoder.named_modules() if module.training]
            assert all(".lora_dropout" in name for name in live)
            assert bool(live) == (on and mode == "lora")


def test_cached_frames_are_refused_by_an_encoder_that_is_trained(tiny_llm: Path, tiny_whisper: Path) -> None:
    batch = replace(batch_of(1), audio=None, frames=Padded.of([torch.zeros(9, 32)]))
    logits(model_of(tiny_llm, tiny_whisper, EncoderTraining()), batch)
    for mode in TRAINED:
        with pytest.raises(ConfigError, match="cached frames are a frozen encoder's"):
            logits(model_of(tiny_llm, tiny_whisper, training(mode)), batch)


@pytest.mark.parametrize("mode", TRAINED)
def test_a_checkpoint_round_trips(mode: str, tiny_llm: Path, tiny_whisper: Path, tmp_path: Path) -> None:
    model = model_of(tiny_llm, tiny_whisper, training(mode), seed=1).eval()
    origin = identity(model)
    save_checkpoint(stir(model), tmp_path, origin)
    held = {name for name in load_file(tmp_path / "trainable.safetensors") if name.startswith("encoder.")}
    assert held == {f"encoder.{name}" for name, p in model.encoder.named_parameters() if p.requires_grad}
    other = model_of(tiny_llm, tiny_whisper, training(mode), seed=2).eval()
    assert not torch.allclose(logits(other, batch_of()), logits(model, batch_of()), atol=1e-2)
    load_checkpoint(other, tmp_path)
    assert torch.equal(logits(other, batch_of()), logits(model, batch_of()))


def test_checkpoints_go_from_a_frozen_encoder_to_a_trained_one_and_nowhere_else(
    tiny_llm: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    models = {mode: model_of(tiny_llm, tiny_whisper, training(mode)).eval() for mode in ("frozen", *TRAINED)}
    for mode, model in models.items():
        save_checkpoint(stir(model), tmp_path / mode, identity(models["frozen"]))
    for mode in TRAINED:
        begun = model_of(tiny_llm, tiny_whisper, training(mode), seed=9).eval()
        load_checkpoint(begun, tmp_path / "frozen")
        assert torch.equal(logits(begun, batch_of()), logits(models["frozen"], batch_of()))
    for before, now in (("lora", "frozen"), ("full", "frozen"), ("lora", "full"), ("full", "lora")):
        with pytest.raises(CheckpointError, match=rf"train\.encoder={before}, and train\.encoder={now} is configured"):
            load_checkpoint(model_of(tiny_llm, tiny_whisper, training(now)), tmp_path / before)
    with pytest.raises(CheckpointError, match="shape"):
        load_checkpoint(model_of(tiny_llm, tiny_whisper, lora(rank=2)), tmp_path / "lora")
    with pytest.raises(CheckpointError, match="lacks encoder"):
        load_checkpoint(model_of(tiny_llm, tiny_whisper, lora(targets=("q_proj", "v_proj", "fc1"))), tmp_path / "lora")


@pytest.mark.parametrize("mode", ["frozen", *TRAINED])
def test_a_checkpoint_of_another_encoder_is_refused(
    mode: str, tiny_llm: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    save_checkpoint(model_of(tiny_llm, tiny_whisper, training(mode)), tmp_path / "checkpoint")
    another = make_tiny_whisper(tmp_path / "whisper")  # of the same shapes, so that only the mark can tell
    model: Any = AutoModel.from_pretrained(another)
    nn.init.normal_(model.encoder.layers[0].fc1.weight)
    model.save_pretrained(another)
    with pytest.raises(CheckpointError, match="another encoder"):
        load_checkpoint(model_of(tiny_llm, another, training(mode)), tmp_path / "checkpoint")


def test_frames_of_the_audio_are_the_cached_ones_and_so_is_the_loss(config_of: ConfigOf, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    encoder = build_encoder(config.encoder)
    cache, samples = frame_cache(config, encoder, "train"), sample_store(config, encoder, "train")
    assert list(samples) == [cut.id for cut in read_cuts(Path(config.data_dir) / "train/cuts.jsonl.gz")]
    with torch.no_grad():
        frames = {name: encoder(Padded.of([samples[name]])).values[0] for name in samples}
    for name, row in frames.items():  # the cache rounds to fp16: half a unit in its last place
        torch.testing.assert_close(cache[name], row, atol=1e-5, rtol=2**-11 + 1e-5)

    model = build_model(config.encoder, config.adapter, config.decoder, config.cut, config.seed).eval()
    llm = imitate.text_llm(config, model.decoder)
    loss = LOSSES.build(config.loss)
    examples = train.training_examples(config, llm, loss)[:4]
    collate: Any = train._collator(config, llm.tokenizer, model, loss, "train", views_of(config))
    values = {}
    for kind, load in (("cached", cache), ("exact", frames), ("audio", samples)):
        batch = replace(collate, load=load.__getitem__, audio=kind == "audio")(examples, 0, 0)
        assert (batch.audio is None, batch.frames is None) == ((kind != "audio"), (kind == "audio"))
        values[kind] = float(loss(model(batch, loss.needs)).total.detach())
    assert values["audio"] == pytest.approx(values["exact"], rel=1e-5)
    assert values["audio"] == pytest.approx(values["cached"], rel=1e-3)


def test_copies_heard_in_training_are_those_of_the_encode_stage(config_of: ConfigOf, tmp_path: Path) -> None:
    config = config_of(tmp_path, "encode.copies=2", "prepare.max_duration=2.0")
    encoder = build_encoder(config.encoder)
    samples = sample_store(config, encoder, "train")
    cuts = read_cuts(Path(config.data_dir) / "train/cuts.jsonl.gz")
    wanted = {cut.id: load_cut_audio(cut, 16000) for cut in cuts}
    for cut in cuts:
        for number in copies_of(cut.duration, 2, 2.0):
            copy = distort(load_cut_audio(cut, 16000).numpy(), 16000, cut.id, number)
            wanted[copy_name(cut.id, number)] = torch.from_numpy(copy)
    assert set(samples) == set(wanted)
    assert samples.originals < len(samples) == len(wanted) < 3 * len(cuts)
    assert samples.copied == (len(wanted) - len(cuts)) // 2
    assert all(torch.equal(samples[name], tensor) for name, tensor in wanted.items())
    assert len(sample_store(config, encoder, "dev")) == 2
    with pytest.raises(DataError, match=r"no audio of 'nobody'"):
        samples["nobody"]
    with pytest.raises(DataError, match=r"lasts 1\.[0-9] s; the encoder takes 1 s"):
        SampleStore(cuts, 16000, most=1.0)


LORA = (
    "train.encoder=lora", "train.encoder_rank=4", "train.encoder_dropout=0.3", "train.encoder_targets=[q_proj,fc2]"
)  # fmt: skip
FULL = ("train.encoder=full", "train.encoder_learning_rate=1e-4")
OPTIONS = {"lora": LORA, "full": FULL}


@pytest.fixture(params=TRAINED, scope="module")
def trained(
    request: pytest.FixtureRequest, config_of: ConfigOf, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, SpeechLLM]:
    """A training of six steps where no cache can be read, and the model that came of it."""
    config = config_of(tmp_path_factory.mktemp(request.param), *OPTIONS[request.param], "decode.systems=[speech,deaf]")
    models: list[SpeechLLM] = []
    init = ImitationModule.__init__

    def keep(self: Any, model: SpeechLLM, *rest: Any, **options: Any) -> None:
        models.append(model)
        init(self, model, *rest, **options)

    def refuse(self: FrameCache, name: str) -> Tensor:
        raise AssertionError(f"the cache was asked for {name}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImitationModule, "__init__", keep)
        patch.setattr(FrameCache, "__getitem__", refuse)
        train.run(config)
        decode.run(config)
    return config, models[0]


def test_training_changes_only_what_it_should(trained: tuple[Config, SpeechLLM], tiny_whisper: Path) -> None:
    config, model = trained
    origin = build_encoder(config.encoder).state_dict()
    now = own_state(model.encoder)
    assert now.keys() == origin.keys()
    changed = {name for name, tensor in origin.items() if not torch.equal(tensor, now[name])}
    assert changed == (set(origin) if config.train.encoder == "full" else set())
    weights = load_file(Path(config.exp_dir) / "checkpoint/trainable.safetensors")
    held = {name for name in weights if name.startswith("encoder.")}
    assert held == {f"encoder.{name}" for name, p in model.encoder.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in weights} == {"encoder", "adapter"}
    if config.train.encoder == "lora":
        assert len(held) == 2 * 2 * 2
        assert all(".lora_" in name and bool(weights[name].abs().sum() > 0) for name in held)
    base = build_model(config.encoder, config.adapter, config.decoder, config.cut, config.seed)
    decoder = model.decoder.state_dict()
    assert all(torch.equal(tensor, decoder[name]) for name, tensor in base.decoder.state_dict().items())


def test_a_trained_encoder_decodes_and_answers_and_another_checkpoint_is_told_apart(
    trained: tuple[Config, SpeechLLM], config_of: ConfigOf, tmp_path: Path
) -> None:
    config, model = trained
    exp = Path(config.exp_dir)
    rows: list[Any] = read_rows(exp / "decode/test/speech.jsonl")
    assert len(rows) == 2 * 12
    # What the checkpoint says of the encoder has its way, whoever decodes.
    again = decode.trained_model(as_trained(config_of(exp)))
    assert torch.equal(logits(again, batch_of()), logits(model.eval(), batch_of()))
    path = tmp_path / "speech.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(1).standard_normal(44100), 44100)
    assert isinstance(answer(exp, path, "Say: {speech}"), str)
    made_by = json.loads((exp / "decode/test/made_by.json").read_text())
    shutil.copytree(exp, tmp_path / "exp")
    weights = tmp_path / "exp/checkpoint/trainable.safetensors"
    state = load_file(weights)
    name = next(name for name in sorted(state) if name.startswith("encoder."))
    state[name] = state[name] + 0.1
    with torch.no_grad():
        dict(again.named_parameters())[name].copy_(state[name])
    save_checkpoint(again, weights.parent, identity(build_model(
        config.encoder, config.adapter, config.decoder, config.cut, config.seed
    )))  # fmt: skip
    decode.run(replace(config, exp_dir=str(tmp_path / "exp")))
    assert json.loads((tmp_path / "exp/decode/test/made_by.json").read_text()) != made_by


@pytest.mark.parametrize("mode", TRAINED)
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    mode: str, config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (config_of(tmp_path / name, *OPTIONS[mode]) for name in ("whole", "parts"))
    train.run(whole)
    step = ImitationModule.training_step

    def interrupt(self: Any, batches: Any, index: int) -> None:
        if self.global_step == 4:
            raise KeyboardInterrupt
        step(self, batches, index)

    with monkeypatch.context() as patch:
        patch.setattr(ImitationModule, "training_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train.run(parts)
    last = torch.load(tmp_path / "parts/checkpoint/last.ckpt", weights_only=True)
    trained = {name.removeprefix("model.") for name in last["state_dict"]}
    train.run(parts)
    one, two = (load_file(tmp_path / name / "checkpoint/trainable.safetensors") for name in ("whole", "parts"))
    assert one.keys() == two.keys() == trained
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-6, rtol=1e-5)


def test_a_training_that_older_code_began_goes_on(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its optimiser has two groups that know no peak."""
    config = config_of(tmp_path)
    step = ImitationModule.training_step

    def interrupt(self: Any, batches: Any, index: int) -> None:
        if self.global_step == 4:
            raise KeyboardInterrupt
        step(self, batches, index)

    with monkeypatch.context() as patch:
        patch.setattr(ImitationModule, "training_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train.run(config)
    path = tmp_path / "checkpoint/last.ckpt"
    last = torch.load(path, weights_only=True)
    groups = last["optimizer_states"][0]["param_groups"]
    assert len(groups) == 2
    for group in groups:
        del group["peak"]
    torch.save(last, path)
    train.run(config)
    assert (tmp_path / "checkpoint/done").exists()


def test_the_encoder_has_a_learning_rate_of_its_own(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[tuple[float, float]] = []
    step = ImitationModule.training_step

    def watch(self: Any, batches: Any, index: int) -> None:
        step(self, batches, index)
        groups = {id(p): group["lr"] for group in self.optimizers().param_groups for p in group["params"]}
        assert len(groups) == sum(p.requires_grad for p in self.model.parameters())
        [mine] = {groups[id(p)] for p in self.model.encoder.parameters()}
        [other] = {groups[id(p)] for p in self.model.adapter.parameters()}
        rates.append((mine, other))

    monkeypatch.setattr(ImitationModule, "training_step", watch)
    for name, more in (("own", ("train.encoder_learning_rate=1e-5",)), ("same", ())):
        peak = ("train.learning_rate=1e-3", "train.encoder=full", "train.steps=2")
        train.run(config_of(tmp_path / name, *peak, *more))
    own, same = rates[:2], rates[2:]
    assert [mine for mine, _ in own] == pytest.approx([other / 100 for _, other in own])
    assert all(mine == other for mine, other in same)


@pytest.mark.parametrize("mode", TRAINED)
def test_a_warm_start_trains_the_encoder_too_and_an_imitation_goes_on_from_it(
    mode: str, config_of: ConfigOf, tmp_path: Path
) -> None:
    sizes = ("adapter=ctc", "adapter.hidden_dim=16", "adapter.layers=1", "adapter.heads=2", "train.steps=2")
    more = (f"train.encoder={mode}", "encode.copies=1", *sizes[1:])
    warm = config_of(tmp_path / "warm", sizes[0], "loss=ctc", *more)
    train.run(warm)
    begun = config_of(tmp_path / "begun", sizes[0], *more, f"train.init_from={tmp_path / 'warm/checkpoint'}")
    train.run(begun)
    one, two = (load_file(tmp_path / name / "checkpoint/trainable.safetensors") for name in ("warm", "begun"))
    assert one.keys() == two.keys()
    assert any(name.startswith("encoder.") for name in one)


def test_pieces_of_audio_are_trained_on_and_decoded(
    config_of: ConfigOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, "cut=audio", "train.speech_share=0", "decode.systems=[speech]")
    assert encode.run(config) == {}
    assert "encode: nothing to cache: pieces of the audio" in " ".join(capsys.readouterr().err.split())
    train.run(config)
    assert decode.run(config_of(tmp_path, "decode.systems=[speech]"))  # the checkpoint knows how it was cut
    whole = train.run(config_of(tmp_path / "whole", "cut=frames", "train.speech_share=1"))
    piece = train.run(config_of(tmp_path / "piece", "cut=audio", "train.speech_share=1"))
    for name, tensor in load_file(whole / "trainable.safetensors").items():  # an utterance in one piece is the same
        torch.testing.assert_close(tensor, load_file(piece / "trainable.safetensors")[name], atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("mode", TRAINED)
def test_there_is_nothing_to_encode(
    mode: str, config_of: ConfigOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(config_of(tmp_path, f"train.encoder={mode}"), data_dir=str(tmp_path))
    assert encode.run(config) == {}
    said = capsys.readouterr()
    assert f"nothing to cache: the encoder is trained (train.encoder={mode})" in said.out + said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["train.encoder=half"], r"train\.encoder is one of frozen, lora, full, not 'half'"),
        (["train.encoder=full", "train.encoder_learning_rate=0"], "more than 0"),
        (["train.encoder=lora", "train.encoder_rank=0"], r"train\.encoder_rank of at least 1"),
        (["train.encoder=lora", "train.encoder_dropout=1"], r"train\.encoder_dropout in"),
        (["train.encoder=lora", "train.encoder_targets=[]"], r"train\.encoder_targets"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(options: list[str], message: str, tmp_path: Path) -> None:
    config = compose_config([f"exp_dir={tmp_path}", "encoder.model=nowhere", "decoder.model=nowhere", *options])
    for stage in (encode, train):
        with pytest.raises(ConfigError, match=message):
            stage.run(config)
    assert list(tmp_path.iterdir()) == []


def test_layers_and_weights_that_are_not_there_are_named(tiny_whisper: Path) -> None:
    options = {"name": "whisper", "model": str(tiny_whisper)}
    with pytest.raises(ConfigError, match=r"'c_attn'.*There are: fc1, fc2, k_proj, out_proj, q_proj, v_proj"):
        lora(targets=("c_attn",)).apply(build_encoder(options))
    for how in (lora(targets=("fc1",)), EncoderTraining("full")):
        with pytest.raises(ConfigError):
            how.apply(nn.Tanh())


@pytest.fixture(scope="module")
def tiny_wavlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wavlm")
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "wavlm", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, vocab_size=8, feat_extract_norm="layer",
        do_stable_layer_norm=True, conv_bias=True,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
def test_lora_that_would_change_nothing_is_refused_in_the_first_step(
    config_of: ConfigOf, tiny_wavlm: Path, tmp_path: Path
) -> None:
    def configured(exp: Path, *more: str) -> Config:
        config = config_of(exp, "train.encoder=lora", "train.steps=2", *more)
        return replace(config, encoder={"name": "ssl", "model": str(tiny_wavlm), "taps": []})

    with pytest.raises(ConfigError, match=r"LoRA on q_proj, v_proj changes nothing"):
        train.run(configured(tmp_path / "attention"))
    more = "train.encoder_targets=[intermediate_dense,output_dense]"
    train.run(configured(tmp_path / "dense", more))
    weights = load_file(tmp_path / "dense/checkpoint/trainable.safetensors")
    assert sum(name.startswith("encoder.") for name in weights) == 2 * 2 * 2
    # Trained whole, its masks of the input and its layer drop stay off: two runs are one.
    for name in ("one", "two"):
        config = configured(tmp_path / name)
        train.run(replace(config, train=replace(config.train, encoder="full")))
    one, two = (load_file(tmp_path / name / "checkpoint/trainable.safetensors") for name in ("one", "two"))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
