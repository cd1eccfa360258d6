"""AWQ's int4 weights in ONNX Runtime's order: the nibbles moved, where the GenAI builder takes them apart bit by bit.

onnxruntime-genai 0.14.1 unpacks an AWQ checkpoint's integers in int64, multiplies them out to float16, rounds them back
to integers and packs these. At 3.8 billion weights that is most of its 45 seconds. Here the nibbles are moved directly.

That is exact. The detour computes round((q·s - z·s + z·s) / s) in float16 with 0 <= q, z <= 15: five roundings, each
off by at most 2^-11 of a number no greater than 15·s, so by 0.04 in all where 0.5 would be needed to change q. It
holds for every positive finite scale, subnormal ones included (there the products are exact). Anything else, such as
another number of bits, is left to the builder.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Where AWQ's word of 8 nibbles holds which of 8 neighbouring outputs: the low nibbles of its bytes, then the high ones
LOW, HIGH = (0, 4, 1, 5), (2, 6, 3, 7)
LARGEST_SCALE = 65504 / 15  # above it the detour overflows


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


def move_nibbles(module: Any) -> None:
    """Turn the builder's AWQ layer, in place, into what its own unpack and repack make of it.

    qweight [outputs, groups, group size / 2] and qzeros, flat, as uint8; scales, flat, by outputs.
    """
    groups = module.in_features // module.group_size
    module.qweight = pair_rows(module.qweight).view(module.out_features, groups, module.group_size // 2)
    module.qzeros = pair_rows(module.qzeros).view(-1)
    module.scales = module.scales.T.reshape(-1).contiguous()


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
