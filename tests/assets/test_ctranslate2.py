from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.assets.ctranslate2 import read_model
from toolkit.errors import AssetError

TENSORS: dict[str, Any] = {
    "a/weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "a/half": np.array([1.5, -2.0, 65504.0], np.float16),
    "a/byte": np.array([[-128], [127]], np.int8),
    "a/short": np.array([-300, 300], np.int16),
    "a/int": np.array([1 << 30], np.int32),
    "a/scalar": np.array(6, np.int16),
    "a/empty": np.zeros((0, 4), np.float32),
}


def test_reads_back_exactly(write_model: Any, tmp_path: Path) -> None:
    data = write_model(TENSORS, {"b": "a/weight"}, kind="AnySpec")
    (tmp_path / "model.bin").write_bytes(data)
    for source in (data, tmp_path / "model.bin"):
        model = read_model(source)
        assert (model.kind, model.revision) == ("AnySpec", 3)
        assert list(model.tensors) == [*TENSORS, "b"]
        for name, tensor in TENSORS.items():
            assert model.tensors[name].dtype == tensor.dtype
            np.testing.assert_array_equal(model.tensors[name], tensor)
        np.testing.assert_array_equal(model.tensors["b"], TENSORS["a/weight"])


def test_bytes_of_a_file_written_by_hand() -> None:
    data = (
        b"\x06\0\0\0" b"\x02\0M\0" b"\x01\0\0\0" b"\x01\0\0\0"  # version 6, "M", revision 1, one variable
        b"\x03\0ab\0" b"\x01" b"\x02\0\0\0" b"\x04" b"\x04\0\0\0"  # "ab", rank 1, 2 values, f16, 4 bytes
        b"\x00\x3c\x00\xc0" b"\0\0\0\0"  # 1.0 and -2.0; no aliases
    )  # fmt: skip
    np.testing.assert_array_equal(read_model(data).tensors["ab"], np.array([1.0, -2.0], np.float16))


def test_refuses_every_truncation(write_model: Any) -> None:
    data = write_model(TENSORS, {"b": "a/weight"})
    for length in range(len(data)):
        with pytest.raises(AssetError, match=r"truncated: it has \d+ bytes, but \d+ more"):
            read_model(data[:length])


def test_refuses_another_version(write_model: Any) -> None:
    with pytest.raises(AssetError, match="version 5; only 6"):
        read_model(write_model(TENSORS, {}, version=5))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"\x04\x06\0\0\0\0\x3e", b"\x09\x06\0\0\0\0\x3e", "'a/half' is of type number 9"),
        (
            b"\x04\x06\0\0\0\0\x3e",
            b"\x00\x06\0\0\0\0\x3e",
            r"'a/half' of shape \(3,\) and type float32 has 6",
        ),
        (b"a/half\0\x01", b"a/half\0\xff", "'a/half' has 255 dimensions"),
        (b"a/half\0", b"a/half!", "no proper name"),
        (
            b"\x02\0b\0\x09\0a/weight\0",
            b"\x02\0b\0\x09\0c/weight\0",
            "'b' is 'c/weight', which it does not hold",
        ),
    ],
)
def test_refuses_contradictions(write_model: Any, old: bytes, new: bytes, message: str) -> None:
    data = write_model(TENSORS, {"b": "a/weight"})
    assert data.count(old) == 1
    with pytest.raises(AssetError, match=message):
        read_model(data.replace(old, new))


def test_refuses_what_follows_the_end(write_model: Any) -> None:
    with pytest.raises(AssetError, match="3 bytes after its end"):
        read_model(write_model(TENSORS, {}) + b"abc")


def test_refuses_a_name_twice(write_model: Any) -> None:
    data = write_model({"x1": TENSORS["a/half"], "x2": TENSORS["a/half"]}, {})
    with pytest.raises(AssetError, match="'x1' twice"):
        read_model(data.replace(b"x2", b"x1"))
