"""ONNX Runtime GenAI's builder without its two slow places: the same files, sooner.

**The weights.** It takes an AWQ checkpoint apart bit by bit: awq_weights.py moves whole nibbles instead.

**The head.** With ``lm_head: int8`` ONNX Runtime searches a scale for every group of 32 weights (k-quant), in numpy, on
one core, with a dozen arrays of the head's size. Each group is searched by itself, so the very same function runs on
blocks of groups here, on all cores.

tests/pipeline/test_export_speed.py compares the bytes.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from olivepress.export.awq_weights import detour_changes_nothing, move_nibbles

if TYPE_CHECKING:
    import numpy as np

    KQuant = Callable[..., tuple[np.ndarray, ...]]

# Weights in one search. NumPy's threads hand the interpreter's lock over at each operation: with an eighth of this,
# 16 cores were no faster than one (docs/log/2026-11-28-gpu.md).
BLOCK = 1 << 19


@contextmanager
def fast_builder() -> Iterator[None]:
    """Within the block, the builder's AWQ reader and ONNX Runtime's k-quant work as described above."""
    from onnxruntime.quantization.neural_compressor import weight_only
    from onnxruntime_genai.models.quantized_model import AWQModel

    unpack, repack, k_quant = AWQModel.unpack, AWQModel.repack, weight_only.quant_tensor_k_quant_cpu

    def convert(self: AWQModel, module: Any) -> None:
        """Both steps in the place of the second."""
        if detour_changes_nothing(module):
            move_nibbles(module)
        else:
            unpack(self, module)
            repack(self, module)

    AWQModel.unpack, AWQModel.repack = (lambda self, module: None), convert
    weight_only.quant_tensor_k_quant_cpu = in_blocks(k_quant)
    try:
        yield
    finally:
        AWQModel.unpack, AWQModel.repack = unpack, repack
        weight_only.quant_tensor_k_quant_cpu = k_quant


def in_blocks(quantize: "KQuant") -> "KQuant":
    """The k-quant search over blocks of groups, on all cores; groups know nothing of others."""
    import numpy as np

    def quantized(data: np.ndarray, num_bits: int = 4, group_size: int = 32) -> tuple[np.ndarray, ...]:
        groups = np.reshape(data, (-1, group_size)).astype(np.float32)
        size = max(2, BLOCK // group_size)
        blocks = [groups[begin : begin + size] for begin in range(0, len(groups), size)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = list(pool.map(lambda block: quantize(block, num_bits, group_size), blocks))
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    return quantized
