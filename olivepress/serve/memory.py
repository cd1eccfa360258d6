"""Where keys and values lie: the host's memory for a CPU model, the card's for a CUDA one."""

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError

if TYPE_CHECKING:
    import numpy as np

DEVICE_TO_DEVICE = 3  # cudaMemcpyKind


@dataclass(frozen=True, eq=False)
class Buffer:
    """Memory of ``shape`` [rows, heads, length, size], in one piece from ``address``, as long as ``owner`` lives."""

    shape: tuple[int, int, int, int]
    dtype: "np.dtype"
    address: int
    owner: Any

    @property
    def head_bytes(self) -> int:
        """Of one head of one row."""
        return self.shape[2] * self.shape[3] * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return self.shape[1] * self.head_bytes


class HostMemory:
    """The process's own. What nothing was written to yet takes none."""

    device = "cpu"

    def new(self, shape: tuple[int, int, int, int], dtype: "np.dtype") -> Buffer:
        """Uninitialized memory; MemoryError."""
        import numpy as np

        array = np.empty(shape, dtype)
        return Buffer(shape, dtype, array.ctypes.data, array)

    def copy(self, to: Buffer, row: int, source: Buffer, from_row: int, tokens: int) -> None:
        """The first ``tokens`` of each head of a row to another row, of the same buffer or a longer one."""
        to.owner[row, :, :tokens] = source.owner[from_row, :, :tokens]


class CudaMemory:
    """Of the CUDA card 0, by ONNX Runtime's allocator; copied by the CUDA runtime that ONNX Runtime has loaded.

    ONNX Runtime's own copies are of whole tensors, and rows are parts of one.
    """

    device = "cuda"

    def __init__(self) -> None:
        try:
            self._cuda = ctypes.CDLL("libcudart.so.12")
        except OSError as error:
            raise PressError(f"CUDA's runtime is missing: {error}. pip install 'olivepress[serve-cuda]'.") from error
        self._cuda.cudaGetErrorString.restype = ctypes.c_char_p

    def new(self, shape: tuple[int, int, int, int], dtype: "np.dtype") -> Buffer:
        """Uninitialized memory; MemoryError."""
        import onnxruntime

        if 0 in shape:
            return Buffer(shape, dtype, 0, None)
        try:
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, "cuda", 0)
        except Exception as error:  # ONNX Runtime's own have no common class but this
            raise MemoryError(str(error)) from error
        return Buffer(shape, dtype, value.data_ptr(), value)

    def copy(self, to: Buffer, row: int, source: Buffer, from_row: int, tokens: int) -> None:
        """As of HostMemory; it is done when this returns."""
        width = tokens * to.shape[3] * to.dtype.itemsize
        places = (
            ctypes.c_void_p(to.address + row * to.row_bytes),
            ctypes.c_size_t(to.head_bytes),
            ctypes.c_void_p(source.address + from_row * source.row_bytes),
            ctypes.c_size_t(source.head_bytes),
        )
        self._check(
            self._cuda.cudaMemcpy2D(*places, ctypes.c_size_t(width), ctypes.c_size_t(to.shape[1]), DEVICE_TO_DEVICE)
        )
        self._check(self._cuda.cudaDeviceSynchronize())  # ONNX Runtime's stream does not wait for this one

    def _check(self, status: int) -> None:
        if status:
            raise RuntimeError(f"CUDA: {self._cuda.cudaGetErrorString(status).decode()}")
