"""The GEMM layout of AutoAWQ's checkpoints: eight int4 weights in a 32-bit word."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PACK_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which of 8 neighbouring outputs goes to which nibble of a word


def pack(
    weight: "torch.Tensor", scales: "torch.Tensor", zeros: "torch.Tensor", group_size: int
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """(qweight, qzeros, scales) of the GEMM layout.

    ``weight`` [out, in] lies on the grid of ``scales`` and ``zeros`` [out, in/group], all float16. Returned:
    [in, out/8] int32, [in/group, out/8] int32 and [in/group, out] float16.
    """
    import torch

    outputs, inputs = weight.shape
    groups = weight.view(outputs, inputs // group_size, group_size)
    integers = torch.round((groups + (zeros * scales)[:, :, None]) / scales[:, :, None]).to(torch.int32)
    return pack_integers(integers.view(outputs, inputs), scales, zeros)


def pack_integers(
    integers: "torch.Tensor", scales: "torch.Tensor", zeros: "torch.Tensor"
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """The same of weights that are integers, 0 to 15, already."""
    import torch

    words = (_words(values.t().contiguous().to(torch.int32)) for values in (integers, zeros))
    return *words, scales.t().contiguous().half()


def _words(integers: "torch.Tensor") -> "torch.Tensor":
    """[n, out] int32 below 16 as [n, out/8] int32, 8 in a word."""
    import torch

    words = torch.zeros(len(integers), integers.shape[1] // 8, dtype=torch.int32, device=integers.device)
    for nibble, column in enumerate(PACK_ORDER):
        words |= integers[:, column::8] << (4 * nibble)
    return words
