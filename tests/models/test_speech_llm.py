from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from toolkit.config import load_parts
from toolkit.data.tokenization import ChatTokenizer
from toolkit.errors import CheckpointError, ConfigError
from toolkit.interfaces import ADAPTERS, LOSSES, Adapter
from toolkit.models.build import attach_tokens, build_model
from toolkit.models.speech_llm import SpeechLLM
from toolkit.testing.tiny import tiny_llm as make_tiny_llm
from toolkit.training.checkpoint import load_checkpoint, save_checkpoint
from toolkit.types import Batch, Example, GenerationOptions, Padded, SpeechSegment, TextSegment

load_parts()
PLANS = (
    (SpeechSegment(0.0, 0.7),),
    (TextSegment("The quick"), SpeechSegment(0.2, 0.9), TextSegment("fox")),
    (SpeechSegment(0.0, 0.3), TextSegment("brown"), SpeechSegment(0.5, 1.2)),
)
SPOKEN = (("The quick brown fox",), ("brown",), ("The quick", "fox"))


def model_of(adapter: str, llm: Path, whisper: Path, cut: str = "embeddings") -> SpeechLLM:
    model = build_model(
        {"name": "whisper", "model": str(whisper), "window": "true_length"},
        {"name": adapter},
        {"name": "causal_lm", "model": str(llm)},
        cut,
        seed=0,
    )
    attach_tokens(model, torch.arange(2, model.decoder.vocabulary_size))
    return model


def batch_of(llm: Path, rows: list[int]) -> Batch:
    tokenizer = ChatTokenizer(str(llm), "")
    examples = [
        Example(str(i), 1.2, "The quick brown fox", (), "Repeat: {speech}", f"answer {i} fox", i != 1) for i in rows
    ]
    audio = [0.1 * torch.randn(12000 + 4000 * i, generator=torch.Generator().manual_seed(i)) for i in rows]
    texts = [(TextSegment(e.transcript),) for e in examples]
    return Batch(
        ids=tuple(e.id for e in examples),
        sequences=tuple(tokenizer.sequence(e, PLANS[i]) for e, i in zip(examples, rows, strict=True)),
        audio=Padded.of(audio),
        teacher_sequences=tuple(tokenizer.sequence(e, t) for e, t in zip(examples, texts, strict=True)),
        transcripts=Padded.of([torch.tensor(tokenizer.transcript(e.transcript)) for e in examples]),
        spoken=tuple(tuple(tokenizer.transcript(text) for text in SPOKEN[i]) for i in rows),
        end_of_turn=tokenizer.end_of_turn,
    )


@pytest.mark.parametrize("cut", ["frames", "embeddings", "audio"])
@pytest.mark.parametrize("adapter", ["stack", "conv", "ctc"])
def test_a_batch_gives_what_each_row_gives_alone(adapter: str, cut: str, tiny_llm: Path, tiny_whisper: Path) -> None:
    model = model_of(adapter, tiny_llm, tiny_whisper, cut).eval()
    needs = frozenset({"student", "teacher"})
    with torch.no_grad():
        together = model(batch_of(tiny_llm, [0, 1, 2]), needs)
        alone = [model(batch_of(tiny_llm, [i]), needs) for i in (0, 1, 2)]
    for side in ("student", "teacher"):
        one = getattr(together, side).logits
        each = torch.cat([getattr(a, side).logits for a in alone])
        torch.testing.assert_close(one, each, atol=1e-5, rtol=1e-4)
    assert together.targets.tolist() == [t for a in alone for t in a.targets.tolist()]


def test_a_piece_of_audio_is_encoded_alone(tiny_llm: Path, tiny_whisper: Path) -> None:
    model = model_of("stack", tiny_llm, tiny_whisper, "audio").eval()
    batch = batch_of(tiny_llm, [2])
    assert batch.audio is not None
    pieces = [piece for piece in batch.sequences[0] if isinstance(piece, SpeechSegment)]
    assert len(pieces) == 2
    spans = model.spans(batch.audio, batch.sequences)
    for piece, span in zip(pieces, spans, strict=True):
        samples = batch.audio.values[0, round(16000 * piece.start) : round(16000 * piece.end)]
        torch.testing.assert_close(span, model.adapter(model.encoder(Padded.of([samples]))).unpad()[0])
    with pytest.raises(ConfigError, match="cut=audio encodes pieces of the audio"):
        model(replace(batch, audio=None, frames=model.frames(batch)), frozenset({"student"}))


def test_generation_in_a_batch_is_generation_alone(tiny_llm: Path, tiny_whisper: Path) -> None:
    model = model_of("stack", tiny_llm, tiny_whisper).eval()
    options = GenerationOptions(6, (1,))
    together = model.generate(batch_of(tiny_llm, [0, 1, 2]), options)
    assert together == [model.generate(batch_of(tiny_llm, [i]), options)[0] for i in (0, 1, 2)]


@pytest.mark.parametrize("adapter", ["stack", "ctc"])
def test_what_is_said_in_a_span_is_embedded_and_the_decoder_is_not_run(
    adapter: str, tiny_llm: Path, tiny_whisper: Path
) -> None:
    model = model_of(adapter, tiny_llm, tiny_whisper).eval()
    batch = batch_of(tiny_llm, [2, 0, 1])
    given = model(batch, frozenset({"embeddings"}))
    spans = given.embeddings
    assert (given.student, given.starts, len(given.targets), spans.rows) == (None, None, 0, (0, 0, 1, 2))
    tokenizer = ChatTokenizer(str(tiny_llm), "")
    texts = ["The quick", "fox", "The quick brown fox", "brown"]
    assert [tokenizer.decode(ids) for ids in spans.tokens] == texts
    for ids, text in zip(spans.tokens, spans.text, strict=True):
        assert torch.equal(text, model.decoder.embed(torch.tensor(ids)).detach())
        assert not text.requires_grad
    frames = model.frames(batch)
    row = model.rows(frames, batch.sequences)[0]
    torch.testing.assert_close(torch.cat(spans.speech[:2]), row.embeddings[row.audio])


@pytest.mark.parametrize("loss", ["embedding", "contrastive", "hidden"])
def test_a_loss_of_a_batch_is_that_of_its_rows(loss: str, tiny_llm: Path, tiny_whisper: Path) -> None:
    model = model_of("stack", tiny_llm, tiny_whisper).eval()
    criterion = LOSSES.build({"name": loss, **({"positions": "first"} if loss == "hidden" else {})})
    together, *alone = (
        criterion(model(batch_of(tiny_llm, rows), criterion.needs)) for rows in ([0, 1, 2], [0], [1], [2])
    )
    assert (
        together.count
        == sum(output.count for output in alone)
        == {"contrastive": 2, "hidden": 3}.get(loss, together.count)
    )
    assert together.total.item() > 0
    torch.testing.assert_close(together.total, torch.stack([output.total for output in alone]).sum())


def test_the_first_token_of_each_answer_and_the_end_of_the_turn_are_told(tiny_llm: Path, tiny_whisper: Path) -> None:
    model, tokenizer = model_of("stack", tiny_llm, tiny_whisper), ChatTokenizer(str(tiny_llm), "")
    given = model(batch_of(tiny_llm, [0, 1, 2]), frozenset({"student"}))
    first = [tokenizer.encode(f"answer {i} fox")[0] for i in (0, 1, 2)]
    assert given.targets[given.starts].tolist() == first
    assert (given.targets == given.end_of_turn).sum() == 2  # the answer of row 1 was cut


@pytest.mark.parametrize("loss", ["cross_entropy", "distillation", "ctc", "embedding", "contrastive"])
def test_gradients_reach_the_adapter_and_nothing_else(loss: str, tiny_llm: Path, tiny_whisper: Path) -> None:
    model = model_of("ctc", tiny_llm, tiny_whisper)
    criterion = LOSSES.build({"name": loss})
    criterion(model(batch_of(tiny_llm, [0, 1, 2]), criterion.needs)).total.backward()
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"adapter"}


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_a_gradient_reaches_every_adapter_through_the_frozen_decoder(
    name: str, tiny_llm: Path, tiny_whisper: Path
) -> None:
    model = model_of(name, tiny_llm, tiny_whisper, "frames")
    criterion = LOSSES.build({"name": "cross_entropy"})
    criterion(model(batch_of(tiny_llm, [0, 1]), criterion.needs)).total.backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.adapter.parameters())
    assert all(p.grad is None for p in model.decoder.parameters())


class Narrow(Adapter):
    """Gives embeddings of another width than it was asked for."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.project = torch.nn.Linear(input_dim, output_dim - 1)

    def forward(self, frames: Padded) -> Padded:
        return Padded(self.project(frames.zeroed()), frames.lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return lengths


def test_widths_that_do_not_fit_are_both_named(
    tiny_llm: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ADAPTERS._classes, "narrow", Narrow)
    needs = frozenset({"student"})
    with pytest.raises(ConfigError, match="Narrow gives embeddings of 31 values, and CausalLMDecoder takes 32"):
        model_of("narrow", tiny_llm, tiny_whisper, "frames")(batch_of(tiny_llm, [0, 1]), needs)
    model = model_of("stack", tiny_llm, tiny_whisper)
    model.encoder.output_dim = 30
    with pytest.raises(ConfigError, match="frames have 32 values, and WhisperEncoder says output_dim 30"):
        model(batch_of(tiny_llm, [0, 1]), needs)


def test_a_checkpoint_of_another_width_names_both(tiny_llm: Path, tiny_whisper: Path, tmp_path: Path) -> None:
    save_checkpoint(model_of("stack", tiny_llm, tiny_whisper), tmp_path)
    other = model_of("stack", tiny_llm, tiny_whisper)
    other.adapter = ADAPTERS.build({"name": "stack", "factor": 3}, 32, 32)
    with pytest.raises(CheckpointError, match=r"adapter\.project\.0\.weight has shape \(2048, 160\), .* \(2048, 96\)"):
        load_checkpoint(other, tmp_path)


def test_targets_end_the_turn_only_where_the_answer_was_complete(tiny_llm: Path) -> None:
    tokenizer = ChatTokenizer(str(tiny_llm), "")
    batch = batch_of(tiny_llm, [0, 1])
    ends = [row[-1].token_ids[-1] == tokenizer.end_of_turn for row in batch.sequences if hasattr(row[-1], "token_ids")]
    assert ends == [True, False]


def test_ctc_needs_an_adapter_that_emits_tokens(tiny_llm: Path, tiny_whisper: Path) -> None:
    model = model_of("stack", tiny_llm, tiny_whisper)
    with pytest.raises(ConfigError, match="adapter=ctc"):
        model(batch_of(tiny_llm, [0]), frozenset({"spans"}))


def test_an_untrained_ctc_adapter_says_what_to_do(tiny_llm: Path, tiny_whisper: Path) -> None:
    model = model_of("ctc", tiny_llm, tiny_whisper)
    attach_tokens(model, torch.zeros(0, dtype=torch.long))
    with pytest.raises(CheckpointError, match=r"train\.init_from"):
        model.generate(batch_of(tiny_llm, [0]), GenerationOptions())


def test_a_checkpoint_may_lack_what_changes_no_output(tiny_llm: Path, tiny_whisper: Path, tmp_path: Path) -> None:
    plain, free = model_of("ctc", tiny_llm, tiny_whisper).eval(), model_of("ctc", tiny_llm, tiny_whisper).eval()
    free.adapter = ADAPTERS.build({"name": "ctc", "residual": True}, 32, plain.decoder.embedding_dim).eval()
    save_checkpoint(plain, tmp_path / "plain")
    load_checkpoint(free, tmp_path / "plain")
    batch, options = batch_of(tiny_llm, [0, 1, 2]), GenerationOptions(5, (1,))
    assert free.generate(batch, options) == plain.generate(batch, options)
    save_checkpoint(free, tmp_path / "free")
    with pytest.raises(CheckpointError, match=r"adapter\.residual\.\w+ has shape .* nothing of that name"):
        load_checkpoint(plain, tmp_path / "free")


def test_a_checkpoint_round_trips_and_holds_the_adapter_alone(
    tiny_llm: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    model = model_of("ctc", tiny_llm, tiny_whisper).eval()
    save_checkpoint(model, tmp_path)
    other = build_model(
        {"name": "whisper", "model": str(tiny_whisper), "window": "true_length"},
        {"name": "ctc"},
        {"name": "causal_lm", "model": str(tiny_llm)},
        "embeddings",
        seed=5,
    ).eval()
    load_checkpoint(other, tmp_path)
    options = GenerationOptions(5, (1,))
    assert other.generate(batch_of(tiny_llm, [0]), options) == model.generate(batch_of(tiny_llm, [0]), options)
    size = sum(p.numel() for p in model.adapter.parameters())
    assert (tmp_path / "trainable.safetensors").stat().st_size < 4 * size * 1.1 + 20000


def test_a_checkpoint_for_another_llm_is_refused(tiny_llm: Path, tiny_whisper: Path, tmp_path: Path) -> None:
    save_checkpoint(model_of("ctc", tiny_llm, tiny_whisper), tmp_path / "ckpt")
    another = make_tiny_llm(tmp_path / "llm", layers=3)
    with pytest.raises(CheckpointError, match="another decoder"):
        load_checkpoint(model_of("ctc", another, tiny_whisper), tmp_path / "ckpt")


def test_a_damaged_checkpoint_is_refused(tiny_llm: Path, tiny_whisper: Path, tmp_path: Path) -> None:
    model = model_of("ctc", tiny_llm, tiny_whisper)
    save_checkpoint(model, tmp_path)
    path = tmp_path / "trainable.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(model, tmp_path)


def test_a_missing_checkpoint_is_named(tiny_llm: Path, tiny_whisper: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(model_of("stack", tiny_llm, tiny_whisper), tmp_path)


def test_a_shared_prefix_changes_no_gradient(tiny_llm: Path, tiny_whisper: Path) -> None:
    """Rows that begin alike run their beginning once; the adapter's gradient is that of rows run one by one."""
    gradients = []
    for groups in ([[0, 1, 2]], [[0], [1], [2]]):
        model = model_of("stack", tiny_llm, tiny_whisper)
        criterion = LOSSES.build({"name": "cross_entropy"})
        for rows in groups:
            criterion(model(batch_of(tiny_llm, rows), criterion.needs)).total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.adapter.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


def test_rows_that_share_their_speech_share_no_gradient(tiny_llm: Path, tiny_whisper: Path) -> None:
    """Two prompts about one utterance begin alike, speech included; what is trained must not be run once for both."""
    tokenizer = ChatTokenizer(str(tiny_llm), "")
    audio = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    examples = [Example("u", 1.0, "fox", (), "{speech} " + question, "yes", True) for question in ("A", "B")]
    plan = (SpeechSegment(0.0, 1.0),)
    gradients = []
    for groups in ([[0, 1]], [[0], [1]]):
        model = model_of("stack", tiny_llm, tiny_whisper)
        criterion = LOSSES.build({"name": "cross_entropy"})
        for rows in groups:
            sequences = tuple(tokenizer.sequence(examples[i], plan) for i in rows)
            batch = Batch(tuple("u" for _ in rows), sequences, audio=Padded.of([audio for _ in rows]))
            criterion(model(batch, criterion.needs)).total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.adapter.parameters() if p.grad is not None]))
    difference = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    assert difference < 1e-5  # together they were once zero
