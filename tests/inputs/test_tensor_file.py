"""safetensors headers, hostile ones among them, and what is read of the data."""

import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from olivepress.core.errors import PressError
from olivepress.core.tensor_file import BLOCK, is_finite, read_floats, read_header, same_values


def entry(dtype: object = "F16", shape: object = (2,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def written(path: Path, header: object, data: bytes = bytes(4), length: int | None = None) -> Path:
    """A file with this header (JSON, or text as it is) and data; ``length`` is what it says of the header."""
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


DEEP = '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}"
HOSTILE = {
    "no header": ("", b"", 0),
    "12 GB long": ("{}", bytes(4), 12 * 10**9),
    "2^64 - 1 long": ("{}", bytes(4), 2**64 - 1),
    "nested lists": (DEEP, bytes(4), None),
    "no JSON": ("{", bytes(4), None),
    "not UTF-8": ('{"\udcff": 1}'.encode("utf-8", "surrogateescape").decode("latin-1"), bytes(4), None),
    "NaN": ('{"a": NaN}', bytes(4), None),
    "a number of 5,000 digits": ('{"a": ' + "9" * 5000 + "}", bytes(4), None),
    "a list": ([], bytes(4), None),
    "twice": ('{"a": {"dtype": "F16"}, "a": {"dtype": "F32"}}', bytes(4), None),
    "no entry": ({"a": 1}, bytes(4), None),
    "keys missing": ({"a": {"dtype": "F16"}}, bytes(4), None),
    "dtype unknown": ({"a": entry("F17")}, bytes(4), None),
    "dtype a list": ({"a": entry(["F16"])}, bytes(4), None),
    "shape negative": ({"a": entry(shape=[-2])}, bytes(4), None),
    "shapes negative": ({"a": entry(shape=[-2, -1])}, bytes(4), None),
    "shape of true": ({"a": entry(shape=[True, 2])}, bytes(4), None),
    "shape of floats": ({"a": entry(shape=[2.0])}, bytes(4), None),
    "shape of text": ({"a": entry(shape="2")}, bytes(4), None),
    "too many dimensions": ({"a": entry(shape=[1] * 1000 + [2])}, bytes(4), None),
    "product overflows": ({"a": entry(shape=[2**33, 2**33])}, bytes(4), None),
    "size differs": ({"a": entry("F32")}, bytes(4), None),
    "offsets beyond the end": ({"a": entry(shape=[2], offsets=[4, 8])}, bytes(4), None),
    "offsets reversed": ({"a": entry(offsets=[4, 0])}, bytes(4), None),
    "offsets negative": ({"a": entry(offsets=[-4, 0])}, bytes(4), None),
    "offsets huge": ({"a": entry(offsets=[2**70, 2**70 + 4])}, bytes(4), None),
    "offsets three": ({"a": entry(offsets=[0, 2, 4])}, bytes(4), None),
    "overlap": ({"a": entry(), "b": entry(offsets=[2, 6])}, bytes(6), None),
    "same place": ({"a": entry(), "b": entry()}, bytes(4), None),
    "a gap": ({"a": entry(), "b": entry(offsets=[6, 10])}, bytes(10), None),
    "more data": ({"a": entry()}, bytes(5), None),
    "less data": ({"a": entry()}, bytes(3), None),
    "metadata of numbers": ({"__metadata__": {"format": 1}, "a": entry()}, bytes(4), None),
    "a long name": ({"a" * 10_000: entry()}, bytes(4), None),
    "an empty name": ({"": entry()}, bytes(4), None),
    "a name of two lines": ({"a\nb": entry()}, bytes(4), None),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_header_that_is_not_sound_is_refused_in_bounded_memory(tmp_path, case):
    header, data, length = HOSTILE[case]
    path = written(tmp_path / "m.safetensors", header, data, length)
    tracemalloc.start()
    try:
        with pytest.raises(PressError) as caught:
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert caught.value.message.startswith(f"{path}: broken or truncated, {path.stat().st_size} bytes (")
    assert len(caught.value.message) < 600


def test_a_long_header_that_is_there_is_refused_unread(tmp_path):
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**31))
        file.truncate(2**32)  # sparse
    with pytest.raises(PressError, match="a header of 2,147,483,648 bytes, expected at most"):
        read_header(path)


def test_a_file_is_read_as_safetensors_reads_it(tmp_path):
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    values = torch.randn(3, 5)
    kinds = {"a": torch.float16, "b": torch.bfloat16, "c": torch.float32, "d": torch.float64}
    path = tmp_path / "m.safetensors"
    empty = {"none": torch.zeros(0, 4), "one": torch.tensor(1.5)}
    save_file({name: values.to(kind) for name, kind in kinds.items()} | empty, path)
    header = read_header(path)
    with safe_open(path, "pt") as file:
        assert set(header) == set(file.keys())
        for name, place in header.items():
            expected = file.get_tensor(name)
            assert list(place.shape) == list(expected.shape)
            assert place.dtype == file.get_slice(name).get_dtype()
            np.testing.assert_array_equal(read_floats(path, place), expected.float().numpy())
            assert is_finite(path, place)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_one_value_that_is_not_finite_is_found_wherever_it_stands(tmp_path, value, kind):
    import torch
    from safetensors.torch import save_file

    good = torch.full((BLOCK // 2 + 3,), torch.finfo(getattr(torch, kind)).max, dtype=getattr(torch, kind))
    bad = good.clone()
    bad[-1] = value
    path = tmp_path / "m.safetensors"
    save_file({"good": good, "bad": bad}, path)
    header = read_header(path)
    assert is_finite(path, header["good"])
    assert not is_finite(path, header["bad"])
    assert same_values(path, header["good"], path, header["good"])
    assert not same_values(path, header["good"], path, header["bad"])
