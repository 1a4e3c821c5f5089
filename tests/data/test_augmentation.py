import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.data.augmentation import MOST, copies_of, copy_name, copy_of, distort
from toolkit.types import Example, Word


def tone(seconds: float = 1.0) -> NDArray[np.float32]:
    return np.asarray(0.3 * np.sin(2 * np.pi * 440 * np.arange(round(16000 * seconds)) / 16000), dtype=np.float32)


def test_a_copy_is_a_function_of_its_name_and_number() -> None:
    first, again = distort(tone(), 16000, "a", 1), distort(tone(), 16000, "a", 1)
    np.testing.assert_array_equal(first, again)
    assert not any(len(other) == len(first) and np.allclose(other, first) for other in _others(first))


def _others(first: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [distort(tone(), 16000, "a", 2), distort(tone(), 16000, "b", 1)]


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_times_of_a_copy_are_those_of_its_sound(name: str) -> None:
    example = Example(name, 1.0, "one two", (Word("one", 0.0, 0.4), Word("two", 0.5, 1.0)))
    copy = copy_of(example, 1)
    speed = example.duration / copy.duration
    assert 0.05 <= round(abs(speed - 1), 6) <= MOST
    assert len(distort(tone(), 16000, name, 1)) == pytest.approx(16000 * copy.duration, abs=1)
    assert [word.text for word in copy.words] == ["one", "two"]
    times = [time * speed for word in copy.words for time in (word.start, word.end)]
    assert times == pytest.approx([0.0, 0.4, 0.5, 1.0])
    assert (copy.id, copy.transcript) == (copy_name(name, 1), example.transcript)


def test_a_copy_is_as_loud_as_the_original_and_noisier() -> None:
    copy = distort(tone(), 16000, "a", 1)
    assert np.abs(copy).max() == pytest.approx(0.3, abs=1e-3)
    spectrum = np.abs(np.fft.rfft(copy * np.hanning(len(copy)))) ** 2
    near = slice(max(0, spectrum.argmax() - 5), spectrum.argmax() + 6)
    assert 0.5 < spectrum[near].sum() / spectrum.sum() < 0.9999


def test_an_utterance_whose_slowest_copy_would_not_fit_has_none() -> None:
    assert list(copies_of(25.5, 2, 30.0)) == [1, 2]
    assert list(copies_of(25.6, 2, 30.0)) == []
