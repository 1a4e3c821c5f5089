import pytest
import torch

from toolkit.interfaces import ADAPTERS, Padded, TimedAdapter
from toolkit.registry import load_plugins
from toolkit.testing import check_adapter


@pytest.fixture(autouse=True)
def _loaded() -> None:
    assert "toolkit_meanpool" in load_plugins(), "not installed: pip install -e plugins/meanpool"


@pytest.mark.parametrize("window", [1, 2, 4, 64])
def test_meanpool_keeps_the_law_of_adapters(window: int) -> None:
    check_adapter("meanpool", window=window)


def test_the_rest_of_a_row_is_averaged_over_the_frames_it_has() -> None:
    adapter = ADAPTERS.build({"name": "meanpool", "window": 2}, 1, 1)
    assert isinstance(adapter, TimedAdapter)
    for parameter, value in zip(adapter.parameters(), (1.0, 0.0), strict=True):
        torch.nn.init.constant_(parameter, value)
    embeddings, times = adapter.timed(Padded.of([torch.tensor([[1.0], [3.0], [8.0]]), torch.tensor([[5.0]])]))
    assert embeddings.lengths.tolist() == [2, 1]
    assert [row.flatten().tolist() for row in embeddings.unpad()] == [[2.0, 8.0], [5.0]]
    assert times[0].tolist() == [0.5, 2.0]
    assert times[1, 0] == 0.0
