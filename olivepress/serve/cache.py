"""Keys and values of the answers that are being written, one row each; ONNX Runtime writes to them in place."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ROUND = 256  # a row's length grows to a multiple of it


class KeyValueCache:
    """``buffers``: name of a past input -> [rows, heads, length, size]. The first ``len(lengths)`` rows are in use.

    ``shapes``: name -> (heads, size); ``dtype``: of all. Memory that nothing was written to yet takes none.
    """

    def __init__(self, shapes: dict[str, tuple[int, int]], dtype: "np.dtype") -> None:
        import numpy as np

        self._shapes, self._dtype = shapes, dtype
        self.buffers = {name: np.empty((0, heads, 0, size), dtype) for name, (heads, size) in shapes.items()}
        self.lengths: list[int] = []  # tokens of each row

    def add(self, tokens: int) -> int:
        """A new row with room for so many ``tokens``; its number, which is the last."""
        rows, _, length, _ = next(iter(self.buffers.values())).shape
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
            for buffer in self.buffers.values():
                buffer[row, :, :kept] = buffer[last, :, :kept]
            self.lengths[row] = kept
        self.lengths.pop()

    def _grow(self, rows: int, length: int) -> None:
        import numpy as np

        grown = {}  # all of them or none: there may not be the memory
        for name, (heads, size) in self._shapes.items():
            before = self.buffers[name]
            after = np.empty((rows, heads, length, size), self._dtype)
            for row, kept in enumerate(self.lengths):
                after[row, :, :kept] = before[row, :, :kept]
            grown[name] = after
        self.buffers = grown
