"""The losses that compare spans of speech with the text of their words: `embedding` and `contrastive`."""

import math
from collections.abc import Sequence as Seq

import pytest
import torch
from torch import Tensor

from toolkit.config import load_parts
from toolkit.errors import ConfigError
from toolkit.interfaces import LOSSES
from toolkit.testing import check_loss
from toolkit.types import LossInputs, SpanEmbeddings

load_parts()


def inputs(speech: Seq[Tensor], text: Seq[Tensor], tokens: Seq[Seq[int]], rows: Seq[int]) -> LossInputs:
    spans = SpanEmbeddings(tuple(speech), tuple(text), tuple(tuple(t) for t in tokens), tuple(rows))
    return LossInputs(torch.zeros(0, dtype=torch.long), embeddings=spans)


@pytest.mark.parametrize("per", ["token", "span"])
def test_embedding_keeps_its_law(per: str) -> None:
    check_loss("embedding", per=per)


def test_embedding_compares_the_last_embeddings_with_the_tokens_in_order() -> None:
    speech = torch.tensor([[9.0, 9.0], [3.0, 4.0], [1.0, 5.0]]).requires_grad_()
    short = torch.tensor([[0.0, 1.0]])
    text = [torch.tensor([[0.0, 0.0], [1.0, 4.0]]), torch.tensor([[7.0, 7.0], [0.0, 0.0]]), torch.zeros(0, 2)]
    given = inputs([speech, short, short], text, [(1, 2), (3, 4), ()], [0, 0, 1])
    by_token = LOSSES.build({"name": "embedding"})(given)
    assert (by_token.total.item(), by_token.count) == (5 + 1 + 1, 3)
    by_span = LOSSES.build({"name": "embedding", "per": "span"})(given)
    assert (by_span.total.item(), by_span.count) == ((5 + 1) / 2 + 1, 2)
    by_token.total.backward()
    assert speech.grad is not None
    torch.testing.assert_close(speech.grad, torch.tensor([[0.0, 0.0], [0.6, 0.8], [0.0, 1.0]]))


def test_embedding_is_zero_with_a_zero_gradient_where_speech_is_text() -> None:
    speech = torch.randn(3, 5).requires_grad_()
    output = LOSSES.build({"name": "embedding"})(inputs([speech], [speech.detach().clone()], [(1, 2, 3)], [0]))
    output.total.backward()
    assert speech.grad is not None
    assert (output.total.item(), speech.grad.abs().sum().item()) == (0.0, 0.0)


def test_contrastive_keeps_its_law_within_utterances_and_not_within_batches() -> None:
    check_loss("contrastive")
    with pytest.raises(AssertionError, match="a batch split in two sums to the same"):
        check_loss("contrastive", negatives="batch")


X, Y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])


@pytest.mark.parametrize(
    ("negatives", "one", "other"),
    # Row 0 chooses among two spans, or three with row 1's, which says X too in other words; row 1 is alone in its row.
    [("utterance", 2, 0), ("batch", 3, 3)],
)
def test_contrastive_worked_out_by_hand(negatives: str, one: int, other: int) -> None:
    loss = LOSSES.build({"name": "contrastive", "temperature": 0.5, "negatives": negatives})
    # Lengths mean nothing, and the mean of (2, 0) and (4, 0) points where (1, 0) does.
    output = loss(inputs([torch.cat([2 * X, 4 * X]), Y, X], [3 * X, Y, X], [(1,), (2,), (3,)], [0, 0, 1]))
    e = math.exp(1 / 0.5)
    x = math.log((e + 1) / e) if one == 2 else math.log((e + 1 + e) / e)
    y = math.log((e + one - 1) / e)
    assert output.count == (3 if other else 2)
    assert output.total.item() == pytest.approx(x + y + (x if other else 0), abs=1e-6)


def test_spans_of_the_same_words_are_not_told_apart() -> None:
    loss = LOSSES.build({"name": "contrastive"})
    output = loss(inputs([X, X], [X, X], [(1,), (1,)], [0, 0]))
    assert (output.total.item(), output.count) == (0.0, 0)


def test_spans_whose_words_nobody_knows_add_nothing() -> None:
    loss = LOSSES.build({"name": "contrastive"})
    nothing = torch.zeros(0, 2)
    alone = loss(inputs([X, Y], [X, Y], [(1,), (2,)], [0, 0]))
    among = loss(inputs([X, X, Y], [X, nothing, Y], [(1,), (), (2,)], [0, 0, 0]))
    assert (float(among.total), among.count) == (float(alone.total), alone.count)
    none = loss(inputs([X], [nothing], [()], [0]))
    assert (float(none.total), none.count) == (0.0, 0)


def test_a_gradient_draws_speech_to_its_own_words() -> None:
    speech = torch.tensor([[0.6, 0.8]]).requires_grad_()
    loss = LOSSES.build({"name": "contrastive"})
    loss(inputs([speech, Y], [X, Y], [(1,), (2,)], [0, 0])).total.backward()
    assert speech.grad is not None
    assert speech.grad[0, 0] < 0 < speech.grad[0, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "embedding", "per": "batch"}, "one of token, span, not 'batch'"),
        ({"name": "contrastive", "negatives": "world"}, "one of utterance, batch, not 'world'"),
        ({"name": "contrastive", "temperature": 0.0}, "must be positive, not 0.0"),
        ({"name": "weighted", "weights": {"ctc": 1.0}, "options": {"hidden": {}}}, "options are of hidden, and"),
        ({"name": "weighted", "weights": {"hidden": 1.0}, "options": {"hidden": {"a": 1}}}, "unknown key of loss"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LOSSES.build(options)


def test_weighted_passes_options_on() -> None:
    options = {"weights": {"embedding": 2.0, "contrastive": 1.0}, "options": {"embedding": {"per": "span"}}}
    check_loss("weighted", **options)
    given = inputs([X, Y], [3 * X, Y], [(1,), (2,)], [0, 0])
    parts = LOSSES.build({"name": "weighted", **options})(given)
    assert (float(parts.parts["embedding"]), parts.count) == (2.0, 2)
    torch.testing.assert_close(parts.total, 2 * parts.parts["embedding"] + parts.parts["contrastive"])
