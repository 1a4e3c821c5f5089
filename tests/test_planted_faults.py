"""Faults that train, converge and show as a score that depends on the batch: each is caught by the name of its law.

Every part here is lawful with `fault=False`, so that what is caught is the fault and nothing else.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from toolkit.cli import main
from toolkit.config import load_parts
from toolkit.decoders.causal_lm import CausalLMDecoder
from toolkit.decoders.lora import LoRADecoder
from toolkit.interfaces import REGISTRIES, Adapter, Encoder, Loss
from toolkit.testing import check_adapter, check_decoder, check_encoder, check_loss
from toolkit.testing.laws import DETERMINISM, LENGTH, NEIGHBOURS, ORDER, PADDING, STATE
from toolkit.types import GenerationOptions, LossInputs, LossOutput, Outputs, Padded

load_parts()


class Plain(Adapter):
    """A linear layer for each frame; what the faults below are faults of."""

    def __init__(self, input_dim: int, output_dim: int, *, fault: bool = True) -> None:
        super().__init__()
        self.fault = fault
        self.project = nn.Linear(input_dim, output_dim)

    def forward(self, frames: Padded) -> Padded:
        return Padded(self.project(self.mixed(frames)), self.output_lengths(frames.lengths))

    def mixed(self, frames: Padded) -> Tensor:
        return frames.zeroed()

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return lengths


class AttendedPadding(Plain):
    """Frames attend to each other, and to the padding."""

    def __init__(self, input_dim: int, output_dim: int, *, fault: bool = True) -> None:
        super().__init__(input_dim, output_dim, fault=fault)
        self.attention = nn.MultiheadAttention(input_dim, 2, batch_first=True)

    def mixed(self, frames: Padded) -> Tensor:
        x = frames.zeroed()
        heard: Tensor = self.attention(x, x, x, key_padding_mask=None if self.fault else ~frames.mask)[0]
        return heard


class UnmaskedKeys(AttendedPadding):
    """Three queries ask all frames, those of the padding too."""

    def __init__(self, input_dim: int, output_dim: int, *, fault: bool = True) -> None:
        super().__init__(input_dim, output_dim, fault=fault)
        self.queries = nn.Parameter(torch.randn(3, input_dim))

    def mixed(self, frames: Padded) -> Tensor:
        queries, keys = self.queries.expand(len(frames.lengths), -1, -1), frames.zeroed()
        heard: Tensor = self.attention(queries, keys, keys, key_padding_mask=None if self.fault else ~frames.mask)[0]
        return heard

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return torch.full_like(lengths, 3)


class UnzeroedConvolution(Plain):
    """Reads what stands in the padding."""

    def __init__(self, input_dim: int, output_dim: int, *, fault: bool = True) -> None:
        super().__init__(input_dim, output_dim, fault=fault)
        self.convolutions = nn.ModuleList(nn.Conv1d(input_dim, input_dim, 3, padding=1) for _ in range(2))

    def mixed(self, frames: Padded) -> Tensor:
        x = frames
        for convolution in self.convolutions:
            values = x.values if self.reads_padding(convolution) else x.zeroed()
            x = Padded(convolution(values.transpose(1, 2)).transpose(1, 2), x.lengths)
        return x.values

    def reads_padding(self, convolution: nn.Module) -> bool:
        return self.fault and convolution is self.convolutions[0]


class UnzeroedSecondConvolution(UnzeroedConvolution):
    """Zeroes the padding once: the second convolution reads what the first has written there."""

    def reads_padding(self, convolution: nn.Module) -> bool:
        return self.fault and convolution is self.convolutions[1]


class AveragedPadding(Plain):
    """Takes away the mean of the padded row."""

    def mixed(self, frames: Padded) -> Tensor:
        x = frames.zeroed()
        return x - x.sum(1, keepdim=True) / (x.shape[1] if self.fault else frames.lengths[:, None, None])


class AnothersLength(Plain):
    """Scales every row by the length of the first."""

    def mixed(self, frames: Padded) -> Tensor:
        lengths = frames.lengths[:1].expand(len(frames.lengths)) if self.fault else frames.lengths
        return frames.zeroed() / lengths[:, None, None]


class WrongLength(Plain):
    """Keeps every second frame, and rounds the other way."""

    def forward(self, frames: Padded) -> Padded:
        return Padded(self.project(frames.zeroed()[:, ::2]), (frames.lengths + 1) // 2)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return (lengths // 2).clamp(min=1) if self.fault else (lengths + 1) // 2


class StaysAwake(Plain):
    """Drops out in evaluation too."""

    def mixed(self, frames: Padded) -> Tensor:
        return functional.dropout(frames.zeroed(), 0.5, self.training or self.fault)


class Detached(Plain):
    """Has a scale that nothing can train."""

    def __init__(self, input_dim: int, output_dim: int, *, fault: bool = True) -> None:
        super().__init__(input_dim, output_dim, fault=fault)
        self.scale = nn.Parameter(torch.ones(input_dim))

    def mixed(self, frames: Padded) -> Tensor:
        return frames.zeroed() * (self.scale.detach() if self.fault else self.scale)


class Forgetful(Plain):
    """Keeps a random table where no checkpoint looks."""

    def __init__(self, input_dim: int, output_dim: int, *, fault: bool = True) -> None:
        super().__init__(input_dim, output_dim, fault=fault)
        self.register_buffer("table", torch.randn(input_dim), persistent=not fault)

    def mixed(self, frames: Padded) -> Tensor:
        return frames.zeroed() * self.get_buffer("table")


class GroupNormalised(Encoder):
    """A strided convolution and group norm, as wav2vec 2.0 "base" has: statistics over the padded row."""

    output_dim, sampling_rate, frame_shift = 4, 16000, 0.02

    def __init__(self, *, fault: bool = True) -> None:
        super().__init__()
        self.fault = fault
        self.convolution = nn.Conv1d(1, 4, 320, stride=320)
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, audio: Padded) -> Padded:
        lengths = self.output_lengths(audio.lengths)
        samples = functional.pad(audio.zeroed(), (0, -audio.values.shape[1] % 320))
        heard = self.convolution(samples[:, None])
        if self.fault:
            return Padded(self.norm(heard).transpose(1, 2), lengths)
        return Padded.of([self.norm(row[None, :, :n])[0].T for row, n in zip(heard, lengths.tolist(), strict=True)])

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return -(-lengths // 320)


class Faulty(CausalLMDecoder):
    """The decoder that the faults below are faults of; `share` says whether it runs shared prefixes once."""

    def __init__(self, *, model: str, fault: bool = True, share: bool = True) -> None:
        super().__init__(model=model)
        self.fault = fault
        self.share = share

    def _hidden(self, sequences: Seq[Tensor], asked: Seq[Tensor], prefixes: Any, audio: Seq[Tensor]) -> Tensor:
        return super()._hidden(sequences, asked, prefixes if self.share else (), audio)

    def _begin(self, sequences: Seq[Tensor], prefixes: Any, audio: Seq[Tensor]) -> Any:
        return super()._begin(sequences, prefixes if self.share else (), audio)


class MissingPositions(Faulty):
    """Leaves positions to the model, which counts the padding."""

    def _run(self, embeddings: Tensor, mask: Tensor, positions: Any, audio: Tensor | None = None, **cache: Any) -> Any:
        return super()._run(embeddings, mask, None if self.fault else positions, audio, **cache)  # type: ignore[arg-type]


class UnmaskedDecoderKeys(Faulty):
    """Attends to the padding."""

    def _run(self, embeddings: Tensor, mask: Tensor, positions: Any, audio: Tensor | None = None, **cache: Any) -> Any:
        return super()._run(embeddings, torch.ones_like(mask) if self.fault else mask, positions, audio, **cache)


class RightPadded(Faulty):
    """Generates from rows that are padded on the right, as training has them: the last state is of padding."""

    def _begin(self, sequences: Seq[Tensor], prefixes: Any, audio: Seq[Tensor]) -> Any:
        if not self.fault:
            return super()._begin(sequences, prefixes, audio)
        width = max(len(row) for row in sequences)
        padded = [torch.cat([row, row.new_zeros(width - len(row), row.shape[1])]) for row in sequences]
        return super()._begin(padded, (), ())


class Forgotten(Faulty):
    """Never begins the rows that wait."""

    def generate(
        self, sequences: Seq[Tensor], options: GenerationOptions, prefixes: Any = (), audio: Seq[Tensor] = ()
    ) -> list[list[int]]:
        most = options.rows if self.fault and options.rows else len(sequences)
        answers = super().generate(sequences[:most], options, prefixes[:most], audio[:most])
        return [*answers, *([] for _ in sequences[most:])]


class Restarted(Faulty):
    """Says every new token at position 0."""

    def _run(self, embeddings: Tensor, mask: Tensor, positions: Any, audio: Tensor | None = None, **cache: Any) -> Any:
        said = self.fault and embeddings.shape[1] == 1 and "past_key_values" in cache
        return super()._run(embeddings, mask, 0 * positions if said else positions, audio, **cache)


class Ungraded(Faulty):
    """Is frozen so thoroughly that no gradient comes through."""

    def outputs(self, *given: Any) -> Outputs:
        with torch.no_grad() if self.fault else nullcontext():
            return super().outputs(*given)


class SharedSpeech(Faulty):
    """Runs the speech with the prompt, once and without a gradient."""

    def outputs(
        self, sequences: Seq[Tensor], positions: Seq[Tensor], prefixes: Any = (), audio: Seq[Tensor] = ()
    ) -> Outputs:
        if self.fault and prefixes:
            sequences = [row.detach() for row in sequences]
        return super().outputs(sequences, positions, prefixes, audio)


class LearningTeacher(LoRADecoder):
    """Leaves LoRA on in the text LLM."""

    def __init__(self, *, model: str, fault: bool = True) -> None:
        super().__init__(model=model)
        self.fault = fault

    @contextmanager
    def as_text_llm(self) -> Iterator[None]:
        with nullcontext() if self.fault else super().as_text_llm():
            yield


class AveragedMeans(Loss):
    """Cross-entropy, averaged: a short answer's tokens weigh more than a long one's."""

    needs: ClassVar[frozenset[str]] = frozenset({"student"})

    def __init__(self, *, fault: bool = True) -> None:
        super().__init__()
        self.reduction = "mean" if fault else "sum"

    def forward(self, inputs: LossInputs) -> LossOutput:
        assert inputs.student is not None
        total = functional.cross_entropy(inputs.student.logits, inputs.targets, reduction=self.reduction)
        return LossOutput(total, len(inputs.targets))


class CountedPadding(Loss):
    """Asks for blank at every step, those of the padding too."""

    needs: ClassVar[frozenset[str]] = frozenset({"spans"})

    def __init__(self, *, fault: bool = True) -> None:
        super().__init__()
        self.fault = fault

    def forward(self, inputs: LossInputs) -> LossOutput:
        assert inputs.spans is not None
        blank = -inputs.spans.logits.values.log_softmax(-1)[..., 0]
        blank = blank if self.fault else blank.masked_fill(~inputs.spans.logits.mask, 0)
        return LossOutput(blank.sum(), int(inputs.spans.logits.lengths.sum()))


CHECKS = {"encoder": check_encoder, "adapter": check_adapter, "decoder": check_decoder, "loss": check_loss}
SHARED = "shared prefixes change nothing"
ROWS = "generation: a batch is its rows"
FAULTS: dict[str, tuple[str, type, str]] = {
    "attended_padding": ("adapter", AttendedPadding, NEIGHBOURS),
    "unmasked_keys": ("adapter", UnmaskedKeys, NEIGHBOURS),
    "unzeroed_convolution": ("adapter", UnzeroedConvolution, PADDING),
    "unzeroed_second_convolution": ("adapter", UnzeroedSecondConvolution, NEIGHBOURS),
    "averaged_padding": ("adapter", AveragedPadding, NEIGHBOURS),
    "anothers_length": ("adapter", AnothersLength, ORDER),
    "wrong_length": ("adapter", WrongLength, LENGTH),
    "stays_awake": ("adapter", StaysAwake, DETERMINISM),
    "detached": ("adapter", Detached, "a gradient reaches every parameter"),
    "forgetful": ("adapter", Forgetful, STATE),
    "group_normalised": ("encoder", GroupNormalised, NEIGHBOURS),
    "missing_positions": ("decoder", MissingPositions, SHARED),
    "unmasked_decoder_keys": ("decoder", UnmaskedDecoderKeys, SHARED),
    "right_padded": ("decoder", RightPadded, ROWS),
    "forgotten": ("decoder", Forgotten, "generation: rows that wait for others to end say the same"),
    "restarted": ("decoder", Restarted, "training scores highest what generation says"),
    "ungraded": ("decoder", Ungraded, "a gradient reaches the speech through the frozen model"),
    "shared_speech": ("decoder", SharedSpeech, "shared prefixes lose no gradient"),
    "learning_teacher": ("decoder", LearningTeacher, "as_text_llm is the text LLM whatever was trained"),
    "averaged_means": ("loss", AveragedMeans, "a batch split in two sums to the same"),
    "counted_padding": ("loss", CountedPadding, "a batch split in two sums to the same"),
}
"""temporary name -> kind, part, the law that it breaks"""
BY_NAME = pytest.mark.parametrize("name", list(FAULTS))


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (kind, cls, _) in FAULTS.items():
        monkeypatch.setitem(REGISTRIES[kind]._classes, name, cls)


@pytest.fixture(scope="module")
def absolute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2: its positions are learned and absolute, so that even a row alone hears where it begins."""
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=60, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1,
        initializer_range=0.3,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@BY_NAME
def test_a_fault_is_caught_by_name(name: str, tiny_llm: Path) -> None:
    kind, _, law = FAULTS[name]
    model = {"model": str(tiny_llm)} if kind == "decoder" else {}
    with pytest.raises(AssertionError, match=f"^'{name}' breaks the law: {law}$"):
        CHECKS[kind](name, **model)
    CHECKS[kind](name, **model, fault=False)


@BY_NAME
def test_the_shell_names_it_too(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind, _, law = FAULTS[name]
    assert main(["check", name]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == f"{kind} '{name}'"
    assert [line for line in said.out.splitlines() if "✗" in line] == [f"  ✗ {law}"]
    assert said.err == f"toolkit check: '{name}' breaks the law: {law}\n"
    assert main(["check", name, kind, f"{kind}.fault=false"]) == 0


@pytest.mark.parametrize("name", ["missing_positions", "unmasked_decoder_keys"])
def test_generation_catches_it_where_positions_are_absolute(name: str, absolute: Path) -> None:
    check_decoder("causal_lm", model=str(absolute))
    check_decoder(name, model=str(absolute), fault=False, share=False)
    with pytest.raises(AssertionError, match=f"'{name}' breaks the law: {ROWS}"):
        check_decoder(name, model=str(absolute), share=False)
    with pytest.raises(AssertionError, match=f"'{name}' breaks the law: {SHARED}"):
        check_decoder(name, model=str(absolute))


def test_generation_of_one_row_alone_shows_none_of_these(tiny_llm: Path) -> None:
    """Why a law is needed: with a batch of one, which is what people look at, the faults are not to be seen."""
    options = GenerationOptions(8, (1,))
    answers = []
    for cls in (MissingPositions, UnmaskedDecoderKeys, RightPadded):
        for fault in (True, False):
            decoder = cls(model=str(tiny_llm), fault=fault)
            answers.append(decoder.generate([decoder.embed(torch.arange(2, 9))], options))
    assert all(answer == answers[0] for answer in answers)
