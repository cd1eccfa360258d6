"""ONNX Runtime GenAI's builder without its detour when it reads AWQ weights: the same files, sooner.

onnxruntime-genai 0.14.1 takes an AWQ checkpoint apart bit by bit, in int64: it unpacks the integers, multiplies them
out to float16, rounds them back to integers and packs these. At 3.8 billion weights that is most of its 45 seconds.
Here the nibbles are moved directly, a byte at a time.

That is exact. The detour computes round((q·s - z·s + z·s) / s) in float16 with 0 <= q, z <= 15: five roundings, each
off by at most 2^-11 of a number no greater than 15·s, so by 0.04 in all where 0.5 would be needed to change q. It
holds for every positive finite scale, subnormal ones included (there the products are exact). Anything else, such as
another number of bits, is left to the builder. tests/test_export_speed.py compares the bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Where AWQ's word of 8 nibbles holds which of 8 neighbouring outputs: the low nibbles of its bytes, then the high ones
LOW, HIGH = (0, 4, 1, 5), (2, 6, 3, 7)
LARGEST_SCALE = 65504 / 15  # above it the detour overflows


@contextmanager
def fast_repacking() -> Iterator[None]:
    """Within the block, the builder's AWQ reader repacks as described above."""
    from onnxruntime_genai.models.quantized_model import AWQModel

    unpack, repack = AWQModel.unpack, AWQModel.repack

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
    try:
        yield
    finally:
        AWQModel.unpack, AWQModel.repack = unpack, repack


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
    quads = words.contiguous().view(torch.uint8).view(-1, 2, columns, 4)
    even, odd = quads[:, 0], quads[:, 1]
    result = torch.empty(columns, 8, len(quads), dtype=torch.uint8)
    for places, pairs in ((LOW, (even & 15) | (odd << 4)), (HIGH, (even >> 4) | (odd & 240))):
        for number, place in enumerate(places):
            result[:, place] = pairs[:, :, number].T
    return result.view(columns * 8, len(quads))
