"""ONNX Runtime GenAI's builder without its two slow places: the same files, sooner.

**The weights.** onnxruntime-genai 0.14.1 takes an AWQ checkpoint apart bit by bit, in int64: it unpacks the integers,
multiplies them out to float16, rounds them back to integers and packs these. At 3.8 billion weights that is most of its
45 seconds. Here the nibbles are moved directly.

That is exact. The detour computes round((q·s - z·s + z·s) / s) in float16 with 0 <= q, z <= 15: five roundings, each
off by at most 2^-11 of a number no greater than 15·s, so by 0.04 in all where 0.5 would be needed to change q. It
holds for every positive finite scale, subnormal ones included (there the products are exact). Anything else, such as
another number of bits, is left to the builder.

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

if TYPE_CHECKING:
    import numpy as np
    import torch

# Where AWQ's word of 8 nibbles holds which of 8 neighbouring outputs: the low nibbles of its bytes, then the high ones
LOW, HIGH = (0, 4, 1, 5), (2, 6, 3, 7)
LARGEST_SCALE = 65504 / 15  # above it the detour overflows
BLOCK = 1 << 16  # weights of the head in one search


@contextmanager
def fast_builder() -> Iterator[None]:
    """Within the block, the builder's AWQ reader and ONNX Runtime's k-quant work as described above."""
    from onnxruntime.quantization.neural_compressor import weight_only
    from onnxruntime_genai.models.quantized_model import AWQModel

    unpack, repack, k_quant = AWQModel.unpack, AWQModel.repack, weight_only.quant_tensor_k_quant_cpu

    def convert(self: AWQModel, module: Any) -> None:
        """Both steps in the place of the second."""
        if not detour_changes_nothing(module):
            unpack(self, module)
            repack(self, module)
            return
        blocks = module.in_features // module.group_size
        module.qweight = pair_rows(module.qweight).view(module.out_features, blocks, module.group_size // 2)
        module.qzeros = pair_rows(module.qzeros).view(-1)
        module.scales = module.scales.T.reshape(-1).contiguous()

    AWQModel.unpack, AWQModel.repack = (lambda self, module: None), convert
    weight_only.quant_tensor_k_quant_cpu = in_blocks(k_quant)
    try:
        yield
    finally:
        AWQModel.unpack, AWQModel.repack = unpack, repack
        weight_only.quant_tensor_k_quant_cpu = k_quant


def detour_changes_nothing(module: Any) -> bool:
    """Whether the nibbles can be moved: 4 bits, whole groups, AWQ's shapes, and scales that lose nothing."""
    import torch

    inputs, outputs, group = module.in_features, module.out_features, module.group_size
    return (
        module.bits == 4
        and module.g_idx is None
        and module.qzeros is not None
        and module.scales.dtype == torch.float16
        and inputs % group == 0
        and group % 2 == 0
        and module.qweight.shape == (inputs, outputs // 8)
        and module.qzeros.shape == (inputs // group, outputs // 8)
        and bool((module.scales > 0).all())
        and bool((module.scales < LARGEST_SCALE).all())
    )


def pair_rows(words: "torch.Tensor") -> "torch.Tensor":
    """AWQ's [rows, outputs/8] int32 as [outputs, ceil(rows/2)] uint8, the even row in the low nibble."""
    import torch

    rows, columns = words.shape
    if rows % 2:
        words = torch.nn.functional.pad(words, (0, 0, 0, 1))
    pairs = words.T.contiguous().view(torch.uint8).view(columns, -1, 2, 4)  # [outputs/8, rows/2, even and odd, byte]
    result = torch.empty(columns, 8, pairs.shape[1], dtype=torch.uint8)
    for byte in range(4):
        even, odd = pairs[:, :, 0, byte].contiguous(), pairs[:, :, 1, byte].contiguous()
        torch.bitwise_or(even & 15, odd << 4, out=result[:, LOW[byte]])
        torch.bitwise_or(even >> 4, odd & 240, out=result[:, HIGH[byte]])
    return result.view(columns * 8, -1)


def in_blocks(
    quantize: "Callable[..., tuple[np.ndarray, ...]]",
) -> "Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]":
    """The k-quant search over blocks of groups that fit a core's cache, on all cores; groups know nothing of others."""
    import numpy as np

    def quantized(data: np.ndarray, num_bits: int = 4, group_size: int = 32) -> tuple[np.ndarray, ...]:
        groups = np.reshape(data, (-1, group_size)).astype(np.float32)
        size = max(2, BLOCK // group_size)
        blocks = [groups[begin : begin + size] for begin in range(0, len(groups), size)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = list(pool.map(lambda block: quantize(block, num_bits, group_size), blocks))
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    return quantized
