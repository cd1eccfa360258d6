"""Keys and values of the answers that are being written, one row each; ONNX Runtime writes to them in place."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from olivepress.serve.memory import Buffer, CudaMemory, HostMemory

if TYPE_CHECKING:
    import numpy as np

ROUND = 256  # a row's length grows to a multiple of it


class KeyValueCache:
    """A buffer for each past input, [rows, heads, length, size]. The first ``len(lengths)`` rows are in use.

    ``shapes``: name -> (heads, size); ``dtype``: of all; ``memory``: where they lie.
    """

    def __init__(self, shapes: dict[str, tuple[int, int]], dtype: "np.dtype", memory: HostMemory | CudaMemory) -> None:
        self._shapes, self._dtype, self._memory = shapes, dtype, memory
        self._buffers = {name: memory.new((0, heads, 0, size), dtype) for name, (heads, size) in shapes.items()}
        self.lengths: list[int] = []  # tokens of each row

    def add(self, tokens: int) -> int:
        """A new row with room for so many ``tokens``; its number, which is the last."""
        rows, _, length, _ = next(iter(self._buffers.values())).shape
        used = len(self.lengths)
        if used == rows or tokens > length:
            self._grow(max(rows, used + 1 if used < 2 else 2 * used), max(length, -(-tokens // ROUND) * ROUND))
        self.lengths.append(0)
        return used

    def remove(self, row: int) -> None:
        """Take a row out; the last one, if it is another, moves to its place."""
        last = len(self.lengths) - 1
        if row != last:
            kept = self.lengths[last]
            for buffer in self._buffers.values():
                self._memory.copy(buffer, row, buffer, last, kept)
            self.lengths[row] = kept
        self.lengths.pop()

    def places(self, first: int, count: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Each input's name, and where its part of ``count`` rows lies: what IOBinding.bind_input takes."""
        for name, buffer in self._buffers.items():
            shape = (count, *buffer.shape[1:])
            yield name, (self._memory.device, 0, self._dtype.type, shape, buffer.address + first * buffer.row_bytes)

    def _grow(self, rows: int, length: int) -> None:
        grown: dict[str, Buffer] = {}  # all of them or none: there may not be the memory
        for name, (heads, size) in self._shapes.items():
            grown[name] = self._memory.new((rows, heads, length, size), self._dtype)
            for row, kept in enumerate(self.lengths):
                self._memory.copy(grown[name], row, self._buffers[name], row, kept)
        self._buffers = grown
