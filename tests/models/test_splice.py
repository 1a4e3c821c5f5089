import pytest
import torch

from toolkit.errors import DataError
from toolkit.models.splice import cut_embeddings, cut_frames, frame_range, splice
from toolkit.types import Padded, SpeechSegment, TokenPiece

CPU = torch.device("cpu")


def embed(token_ids: torch.Tensor) -> torch.Tensor:
    """Token t is the vector (t, t)."""
    return token_ids[:, None].float().expand(-1, 2)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.0, 0.4, (0, 4)),
        (0.6, 1.0, (6, 10)),  # int(0.6 / 0.1) would be 5
        (0.31, 0.33, (3, 4)),  # shorter than a frame: still one
        (0.98, 1.3, (9, 10)),  # past the end: clamped
        (1.0, 1.0, (9, 10)),
        (0.0, 0.92, (0, 10)),  # a recording that fills little of its last frame is heard to its end
        (0.0, 0.9, (0, 9)),
    ],
)
def test_seconds_become_frames_rounded_and_clamped(start: float, end: float, expected: tuple[int, int]) -> None:
    assert frame_range(SpeechSegment(start, end), 0.1, 10) == expected


def test_spans_are_cut_in_order_over_all_rows() -> None:
    frames = Padded(torch.arange(20.0).reshape(2, 10, 1), torch.tensor([10, 7]))
    rows = [
        (SpeechSegment(0.0, 0.2), TokenPiece((1,)), SpeechSegment(0.5, 0.8)),
        (SpeechSegment(0.4, 1.0),),
    ]
    spans = cut_frames(frames, rows, 0.1)
    assert [span[:, 0].tolist() for span in spans.unpad()] == [[0, 1], [5, 6, 7], [14, 15, 16]]


def test_embeddings_go_to_the_span_that_holds_their_centre_and_an_empty_span_gets_the_nearest() -> None:
    embeddings = Padded(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([3]))
    times = torch.tensor([[0.5, 4.0, 8.0]])
    row = (SpeechSegment(0.0, 0.5), SpeechSegment(0.5, 0.7), SpeechSegment(0.7, 1.0))
    spans = cut_embeddings(embeddings, times, torch.tensor([10]), [row], 0.1)
    assert [span[:, 0].tolist() for span in spans] == [[1, 2], [2], [3]]


def test_a_row_is_its_pieces_joined_and_scored_before_each_supervised_token() -> None:
    spans = [torch.full((2, 2), 70.0), torch.full((1, 2), 80.0)]
    row = (
        TokenPiece((1, 2)), SpeechSegment(0, 1), TokenPiece((3,)), SpeechSegment(1, 2),
        TokenPiece((4, 5), supervised=True),
    )  # fmt: skip
    (out,) = splice([row], spans, embed, CPU)
    assert out.embeddings[:, 0].tolist() == [1, 2, 70, 70, 3, 80, 4, 5]
    assert out.positions.tolist() == [5, 6]
    assert out.targets.tolist() == [4, 5]


def test_a_supervised_first_token_is_refused() -> None:
    with pytest.raises(DataError, match="opens its row"):
        splice([(TokenPiece((4,), supervised=True),)], [], embed, CPU)
