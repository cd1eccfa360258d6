"""A safetensors file, looked at with bounds of our own before any library reads it.

The format: eight bytes with the length of the header (little-endian), the header (a JSON object: name -> dtype, shape
and offsets in the data), the data without gaps.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError
from olivepress.core.json_file import parse_json

if TYPE_CHECKING:
    import numpy as np

# Bits of an element. Formats of less than a byte are packed.
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
# dtype -> (numpy's unsigned integer of that size, the bits of the exponent: all set in what is not finite)
FLOATS = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F800000),
    "F64": ("<u8", 0x7FF0000000000000),
}
# A header has about a hundred bytes a tensor; the largest models have some thousand tensors a file.
LONGEST_HEADER = 16 * 2**20
LONGEST_NAME = 500
DIMENSIONS = 8
BLOCK = 2**24


@dataclass(frozen=True)
class Stored:
    """One tensor in a file: safetensors' name of its dtype (F16, I32, …), shape, first byte in the file, bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


def read_header(path: Path) -> dict[str, Stored]:
    """Name -> where and what it is, of every tensor; PressError if the header is not sound, or the file not whole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= size - 8:
            raise _broken(path, size, f"a header of {length:,} bytes" if len(head) == 8 else "no header")
        if length > LONGEST_HEADER:
            raise _broken(path, size, f"a header of {length:,} bytes, expected at most {LONGEST_HEADER:,}")
        text = file.read(length)
    try:
        header = parse_json(path, text)
    except PressError as error:
        raise _broken(path, size, error.message.removeprefix(f"{path}: ").partition(". Fetch")[0]) from error
    try:
        found = dict(_entries(header, 8 + length))
        _check_cover(found, 8 + length, size)
    except ValueError as error:
        raise _broken(path, size, str(error)) from error
    return found


def _broken(path: Path, size: int, reason: str) -> PressError:
    return PressError(f"{path}: broken or truncated, {size} bytes ({reason}). Fetch the model again.")


def _entries(header: Any, first: int) -> Iterator[tuple[str, Stored]]:
    """The header's tensors; ValueError for an entry that is none. The data begin at byte ``first``."""
    if not isinstance(header, dict):
        raise ValueError("the header is no object")
    for name, entry in header.items():
        if name == "__metadata__":
            if not isinstance(entry, dict) or not all(isinstance(text, str) for text in entry.values()):
                raise ValueError("__metadata__ is no object of texts")
            continue
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise ValueError(f"a tensor's name of {len(name)} characters: {name[:40]!r}")
        yield name, _stored(name, entry, first)


def _stored(name: str, entry: Any, first: int) -> Stored:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise ValueError(f"{name}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ValueError(f"{name}: unknown dtype {str(dtype)[:40]!r}")
    if not isinstance(shape, list) or len(shape) > DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{name}: shape is {str(shape)[:80]}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(n) is int for n in offsets):
        raise ValueError(f"{name}: data_offsets is {str(offsets)[:80]}")
    bits = math.prod(shape) * BITS[dtype]
    begin, end = offsets
    if not 0 <= begin <= end or 8 * (end - begin) != bits:
        raise ValueError(f"{name}: {dtype} {str(shape)[:80]} does not fit data_offsets {str(offsets)[:80]}")
    return Stored(dtype, tuple(shape), first + begin, end - begin)


def _check_cover(found: dict[str, Stored], first: int, size: int) -> None:
    """ValueError unless the tensors lie one behind the other and fill the file to its end."""
    place = first
    for name, stored in sorted(found.items(), key=lambda item: (item[1].start, item[1].nbytes)):
        if stored.start != place:
            raise ValueError(f"{name}: {'overlaps another tensor' if stored.start < place else 'a gap before it'}")
        place += stored.nbytes
    if place != size:
        raise ValueError(f"file not fully covered: tensors reach to byte {place:,}")


def blocks(path: Path, stored: Stored, dtype: str) -> "Iterator[np.ndarray]":
    """The tensor's bytes as numbers of numpy's ``dtype``, in pieces of BLOCK bytes."""
    import numpy as np

    with path.open("rb") as file:
        file.seek(stored.start)
        left = stored.nbytes
        while left:
            data = file.read(min(BLOCK, left))
            if not data:
                raise PressError(f"{path}: became shorter while it was read. Fetch the model again.")
            left -= len(data)
            yield np.frombuffer(data, dtype)


def is_finite(path: Path, stored: Stored) -> bool:
    """Whether no value of a tensor of FLOATS is NaN or infinite. The tensor is never in memory whole."""
    integers, exponent = FLOATS[stored.dtype]
    return not any(((block & exponent) == exponent).any() for block in blocks(path, stored, integers))


def read_floats(path: Path, stored: Stored) -> "np.ndarray":
    """A tensor of FLOATS as float32, in its shape."""
    import numpy as np

    parts = []
    for block in blocks(path, stored, FLOATS[stored.dtype][0]):
        if stored.dtype == "BF16":  # the upper half of a float32
            parts.append((block.astype(np.uint32) << 16).view(np.float32))
        else:
            parts.append(block.view(f"<f{block.itemsize}").astype(np.float32))
    return (np.concatenate(parts) if parts else np.zeros(0, np.float32)).reshape(stored.shape)


def same_values(path: Path, one: Stored, other_path: Path, other: Stored) -> bool:
    """Whether two tensors are equal, byte by byte."""
    import numpy as np

    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    pairs = zip(blocks(path, one, "u1"), blocks(other_path, other, "u1"), strict=True)
    return all(np.array_equal(left, right) for left, right in pairs)
