"""The stored teacher: what is kept is what the text LLM says, and the loss of it is the loss of a live one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from toolkit.config import Config, load_parts
from toolkit.data import teacher as teacher_file
from toolkit.data.teacher import Teacher, TeacherStore, key_of, teacher_of, text_view
from toolkit.errors import ConfigError, DataError
from toolkit.interfaces import LOSSES
from toolkit.stages.imitate import TextLLM, text_llm
from toolkit.types import Example, LossInputs, Outputs, Sequence, SpeechSegment, TokenPiece, TopK

load_parts()


@pytest.fixture(scope="module")
def llm(config_of: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> TextLLM:
    return text_llm(config_of(tmp_path_factory.mktemp("exp")))


@pytest.fixture(scope="module")
def rows(llm: TextLLM) -> list[Sequence]:
    prompts = ("Say: {speech}", "Repeat the following text: {speech}", "{speech}")
    texts = ("The quick brown fox", "My aunt", "What is the capital of France?")
    examples = [
        Example(f"{i}", 1.0, texts[i % 3], (), prompts[i // 5 % 3], f"the garden {i} is", i % 2 == 0) for i in range(10)
    ]
    return [text_view(llm.tokenizer, example) for example in examples]


def logits_of(llm: TextLLM, row: Sequence) -> Tensor:
    """Return what the LLM's own forward pass says before each supervised token of a row of text."""
    ids = torch.tensor([token for piece in row if isinstance(piece, TokenPiece) for token in piece.token_ids])
    supervised = sum(len(piece.token_ids) for piece in row if isinstance(piece, TokenPiece) and piece.supervised)
    with torch.no_grad():
        logits: Tensor = llm.decoder.lm(ids[None]).logits[0]  # type: ignore[operator]
    return logits[-supervised - 1 : -1]


@pytest.mark.parametrize("top_k", [1, 5, 100_000])
def test_what_is_kept_is_what_the_model_itself_says(top_k: int, llm: TextLLM, rows: list[Sequence]) -> None:
    for row, kept in zip(rows, llm.teach(rows, top_k), strict=True):
        log_probs = logits_of(llm, row).log_softmax(-1)
        size = log_probs.shape[1]
        assert kept.token_ids.shape == (len(log_probs), min(top_k, size))
        best = log_probs.topk(min(top_k, size))
        torch.testing.assert_close(kept.log_probs[:, :top_k], best.values, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(kept.log_probs.exp().sum(-1), torch.ones(len(log_probs)))
        assert kept.log_probs.shape[1] == (top_k + 1 if top_k < size else size)


def test_interrupted_after_a_file_and_resumed_is_uninterrupted(
    llm: TextLLM, rows: list[Sequence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_file, "SHARD", 4)

    def files(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (folder / "top3").iterdir()}

    assert list(TeacherStore(tmp_path / "whole", 3).fill(rows, llm, 2)) == [4, 4, 2]
    filling: Iterator[int] = TeacherStore(tmp_path / "twice", 3).fill(rows, llm, 2)
    assert next(filling) == 4
    filling.close()  # type: ignore[attr-defined]
    assert list(TeacherStore(tmp_path / "twice", 3).fill(rows, llm, 2)) == [4, 2]
    assert files(tmp_path / "twice") == files(tmp_path / "whole")
    store = TeacherStore(tmp_path / "twice", 3)
    assert list(store.fill(rows, llm, 2)) == []
    for row, kept in zip(rows, llm.teach(rows, 3), strict=True):
        assert row in store
        torch.testing.assert_close(store[row].token_ids, kept.token_ids)
        torch.testing.assert_close(store[row].log_probs, kept.log_probs, atol=1e-5, rtol=1e-5)
    assert rows[0] not in TeacherStore(tmp_path / "twice", 2)


def test_a_row_is_known_by_its_tokens_and_by_what_is_supervised(rows: list[Sequence], tmp_path: Path) -> None:
    assert len({key_of(row) for row in rows}) == len(rows)
    first = rows[0]
    assert key_of(first) == key_of(tuple(first))
    last = first[-1]
    assert isinstance(last, TokenPiece)
    assert key_of((*first[:-1], TokenPiece(last.token_ids))) != key_of(first)
    with pytest.raises(DataError, match="speech in it"):
        key_of((SpeechSegment(0.0, 1.0), *first))
    with pytest.raises(DataError, match=r"no stored teacher.*imitate stage"):
        TeacherStore(tmp_path, 3)[first]


def test_an_engine_that_cannot_is_told_so_before_anything_is_asked(llm: TextLLM) -> None:
    class Answering:
        """An engine that only answers."""

    assert isinstance(teacher_of(llm), Teacher)
    with pytest.raises(ConfigError, match=r"imitate\.top_k: Answering gives answers and no log-probabilities"):
        teacher_of(Answering())


def divergence(student: Tensor, teacher: Outputs | TopK, **options: float) -> Tensor:
    inputs = LossInputs(
        torch.arange(len(student)) % 3,
        Outputs(student, student[:, :2]),
        teacher if isinstance(teacher, Outputs) else None,
        stored_teacher=teacher if isinstance(teacher, TopK) else None,
        end_of_turn=1,
    )
    total: Tensor = LOSSES.build({"name": "distillation", **options})(inputs).total
    return total


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [1, 4, 30, 50])
def test_stored_divergence(top_k: int, temperature: float) -> None:
    torch.manual_seed(0)
    said, student = 3 * torch.randn(9, 50), (3 * torch.randn(9, 50)).requires_grad_()
    stored = TopK.of(said, top_k)
    assert float(divergence(said, stored, temperature=temperature)) == pytest.approx(0, abs=1e-5)
    live = divergence(student, Outputs(said, said[:, :2]), temperature=temperature, end_weight=1.0)
    kept = divergence(student, stored, temperature=temperature, end_weight=1.0)
    slopes = [torch.autograd.grad(total, student)[0] for total in (live, kept)]
    assert bool((slopes[1].abs().sum(-1) > 0).all())
    if top_k == 50:
        torch.testing.assert_close(kept, live, atol=1e-5, rtol=1e-6)
        torch.testing.assert_close(slopes[1], slopes[0], atol=1e-6, rtol=1e-5)
    elif temperature == 1.0:  # outcomes put together can only be told apart less well
        assert 0 < float(kept.detach()) < float(live.detach())
