"""Rows with several recordings: each span is cut from its own, and a batch gives what each row gives alone."""

from collections.abc import Sequence as Seq
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from toolkit.config import load_parts
from toolkit.data.batches import numbered
from toolkit.data.tokenization import ChatTokenizer
from toolkit.errors import DataError
from toolkit.interfaces import LOSSES
from toolkit.models.build import attach_tokens, build_model
from toolkit.models.speech_llm import SpeechLLM
from toolkit.models.splice import cut_embeddings, cut_frames, placed_spans
from toolkit.training.anchor import AnchoredLoss
from toolkit.types import Batch, Example, GenerationOptions, Padded, Plan, SpeechSegment, TextSegment, TokenPiece, Turn

load_parts()
TEXTS = ("The quick brown fox", "She sells sea shells", "What is the capital")
HISTORY = (Turn("Repeat: {speech2}", "She sells sea shells"),)


def said(number: int) -> Example:
    return Example(f"r{number}", 0.7 + 0.25 * number, TEXTS[number % 3])


ROWS: list[tuple[Example, tuple[Plan, ...]]] = [
    (
        replace(said(0), prompt="{speech} or {speech2}?", response="answer fox", others=(said(1),)),
        ((SpeechSegment(0.0, 0.7),), (TextSegment("She"), SpeechSegment(0.2, 0.6), TextSegment("sea shells"))),
    ),
    (replace(said(2), prompt="Repeat: {speech}", response="the"), ((SpeechSegment(0.0, 1.2),),)),
    (
        replace(said(3), prompt="{speech3} {speech2} {speech}", response="one", others=(said(4), said(5))),
        ((SpeechSegment(0.0, 0.4), TextSegment("brown fox")), (SpeechSegment(0.0, 1.7),), (TextSegment("a text"),)),
    ),
    (
        replace(said(6), prompt="And {speech}?", response="two", others=(said(7),), history=HISTORY),
        ((SpeechSegment(0.0, 2.2),), (SpeechSegment(0.5, 0.9),)),
    ),
]


def audio(name: str, seconds: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    return 0.1 * torch.randn(round(16000 * seconds), generator=generator)


def batch_of(llm: Path, rows: Seq[tuple[Example, tuple[Plan, ...]]]) -> Batch:
    tokenizer = ChatTokenizer(str(llm), "")
    utterances = [utterance for example, _ in rows for utterance in example.utterances]
    texts = [[(TextSegment(u.transcript),) for u in example.utterances] for example, _ in rows]
    return Batch(
        ids=tuple(example.id for example, _ in rows),
        sequences=tuple(tokenizer.sequence(example, *plans) for example, plans in rows),
        audio=Padded.of([audio(u.id, u.duration) for u in utterances]),
        teacher_sequences=tuple(tokenizer.sequence(e, *t) for (e, _), t in zip(rows, texts, strict=True)),
        transcripts=Padded.of([torch.tensor(tokenizer.transcript(u.transcript)) for u in utterances]),
        recordings=numbered([len(example.utterances) for example, _ in rows]),
    )


def model_of(adapter: str, llm: Path, whisper: Path, cut: str = "frames") -> SpeechLLM:
    encoder = {"name": "whisper", "model": str(whisper), "window": "true_length"}
    model = build_model(encoder, {"name": adapter}, {"name": "causal_lm", "model": str(llm)}, cut, seed=0)
    attach_tokens(model, torch.arange(2, model.decoder.vocabulary_size))
    return model


@pytest.mark.parametrize(("adapter", "cut"), [("stack", "frames"), ("ctc", "frames"), ("ctc", "embeddings")])
def test_a_batch_of_different_numbers_of_recordings_gives_what_each_row_gives_alone(
    adapter: str, cut: str, tiny_llm: Path, tiny_whisper: Path
) -> None:
    model = model_of(adapter, tiny_llm, tiny_whisper, cut).eval()
    needs = frozenset({"student", "teacher"})
    with torch.no_grad():
        together = model(batch_of(tiny_llm, ROWS), needs)
        alone = [model(batch_of(tiny_llm, [row]), needs) for row in ROWS]
    for side in ("student", "teacher"):
        each = torch.cat([getattr(a, side).logits for a in alone])
        torch.testing.assert_close(getattr(together, side).logits, each, atol=1e-5, rtol=1e-4)
    assert together.targets.tolist() == [t for a in alone for t in a.targets.tolist()]
    options = GenerationOptions(5, (1,))
    answers = model.generate(batch_of(tiny_llm, ROWS), options)
    assert answers == [model.generate(batch_of(tiny_llm, [row]), options)[0] for row in ROWS]


def test_a_row_is_what_one_would_put_together_by_hand(tiny_llm: Path, tiny_whisper: Path) -> None:
    model = model_of("stack", tiny_llm, tiny_whisper).eval()
    batch = batch_of(tiny_llm, ROWS)
    frames = model.frames(batch)
    example, plans = ROWS[3]
    row = model.rows(frames, batch.sequences, batch.recordings)[3]

    def heard(utterance: Example, span: SpeechSegment) -> torch.Tensor:
        own = model.encoder(Padded.of([audio(utterance.id, utterance.duration)]))
        first, last = (round(t / model.encoder.frame_shift) for t in (span.start, span.end))
        adapted: Padded = model.adapter(Padded.of([own.values[0, first:last]]))
        return adapted.values[0]

    def tokens(text: str) -> list[int]:
        return list(ChatTokenizer(str(tiny_llm), "")._tokenizer(text, add_special_tokens=False)["input_ids"])

    def read(text: str) -> torch.Tensor:
        return model.decoder.embed(torch.tensor(tokens(text)))

    first, second = (plan[0] for plan in plans)
    assert isinstance(first, SpeechSegment)
    assert isinstance(second, SpeechSegment)
    by_hand = [
        read("<|im_start|>system\n<|im_end|>\n<|im_start|>user\nRepeat:"),
        heard(example.others[0], second),
        read("<|im_end|>\n<|im_start|>assistant\nShe sells sea shells<|im_end|>\n<|im_start|>user\nAnd"),
        heard(example, first),
        read("?<|im_end|>\n<|im_start|>assistant\n"),
        read("two<|im_end|>"),
    ]
    torch.testing.assert_close(row.embeddings, torch.cat(by_hand), atol=1e-5, rtol=1e-4)
    assert row.audio.sum() == len(by_hand[1]) + len(by_hand[3])
    assert row.targets.tolist() == tokens("two<|im_end|>")


@pytest.mark.parametrize("loss", ["cross_entropy", "distillation", "anchored"])
def test_a_step_trains_on_every_recording(loss: str, tiny_llm: Path, tiny_whisper: Path) -> None:
    model = model_of("ctc", tiny_llm, tiny_whisper, "embeddings")
    plain = LOSSES.build({"name": "cross_entropy" if loss == "anchored" else loss})
    criterion = AnchoredLoss(plain, 0.5) if loss == "anchored" else plain
    batch = batch_of(tiny_llm, ROWS[:1])
    frames = model.frames(batch)
    leaf = frames.values.clone().requires_grad_()
    ready = replace(batch, audio=None, frames=Padded(leaf, frames.lengths))
    output = criterion(model(ready, criterion.needs))
    output.total.backward()
    assert leaf.grad is not None
    assert leaf.grad.shape[0] == 2
    assert bool((leaf.grad.abs().sum((1, 2)) > 0).all())
    assert output.count == len([t for p in batch.sequences[0] if isinstance(p, TokenPiece) and p.supervised
                                for t in p.token_ids])  # fmt: skip


def test_the_recordings_of_a_row_are_not_mistaken_for_each_other(tiny_llm: Path, tiny_whisper: Path) -> None:
    model = model_of("stack", tiny_llm, tiny_whisper).eval()
    example = replace(ROWS[0][0], prompt="{speech} {speech2}")
    other = replace(example.others[0], prompt="{speech2} {speech}", response="answer fox", others=(said(0),))
    plan: Plan = (SpeechSegment(0.0, 0.7),)
    needs = frozenset({"student"})
    with torch.no_grad():
        same, swapped, back = (
            model(batch_of(tiny_llm, [(row, (plan, plan))]), needs).student.logits
            for row in (example, other, replace(other, prompt="{speech} {speech2}"))
        )
    torch.testing.assert_close(same, swapped, atol=1e-5, rtol=1e-4)
    assert float((same - back).abs().max()) > 1e-3


def test_spans_are_cut_from_the_recordings_of_their_rows() -> None:
    frames = Padded(torch.arange(30.0).reshape(3, 10, 1), torch.tensor([10, 7, 9]))
    rows = [
        (SpeechSegment(0.5, 0.8, 1), TokenPiece((1,)), SpeechSegment(0.0, 0.2)),
        (SpeechSegment(0.4, 2.0),),
    ]
    own = ((0, 1), (2,))
    wanted = [[15, 16], [0, 1], [24, 25, 26, 27, 28]]
    assert [s[:, 0].tolist() for s in cut_frames(frames, rows, 0.1, own).unpad()] == wanted
    times = torch.arange(10.0).expand(3, -1)
    spans = cut_embeddings(frames, times, frames.lengths, rows, 0.1, own)
    assert [span[:, 0].tolist() for span in spans] == wanted


@pytest.mark.parametrize(
    ("own", "count", "message"),
    [
        ((), 3, r"1 rows do not share out 3 recordings"),
        (((0,),), 2, r"1 rows do not share out 2 recordings"),
        (((0,), (1,)), 2, r"1 rows do not share out 2 recordings"),
        (((0,),), 1, r"recording 2 of a row that has 1"),
        ((), 1, r"recording 2 of a row that has 1"),
    ],
)
def test_recordings_that_are_not_the_rows_are_refused(
    own: tuple[tuple[int, ...], ...], count: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        placed_spans([(SpeechSegment(0.0, 1.0, 1),)], count, own)
