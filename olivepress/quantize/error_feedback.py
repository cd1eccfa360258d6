"""Rounding with error feedback, GPTQ (Frantar et al. 2022, arXiv:2210.17323), on a grid that is given.

Weights are rounded input by input, and what one is off by is made up for in those that are not rounded yet, so that the
layer's output on calibration text changes least. The inputs with the most energy go first (GPTQ's act-order); since the
grid is fixed before, groups stay as they are stored.
"""

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.quantize.kernel import UNAVAILABLE, compile_kernel

if TYPE_CHECKING:
    import torch

DAMPING = 0.1  # of the mean energy, added to every input's; GPTQ has 0.01, which costs other text a little more
BLOCK = 128  # inputs whose updates of later ones are put together into one product
LANES = 32  # outputs that a block of the kernel's threads takes


def round_with_feedback(
    weight: "torch.Tensor",
    gram: "torch.Tensor",
    scales: "torch.Tensor",
    zeros: "torch.Tensor",
    *,
    bits: int,
) -> "torch.Tensor":
    """Integers [outputs, inputs] in float32, 0 to 2^bits - 1, for a float32 ``weight`` of that shape.

    ``gram`` [inputs, inputs] is XᵀX of the layer's inputs; ``scales`` and ``zeros`` are [outputs, groups]. An integer q
    stands for (q - zero)·scale.
    """
    import torch

    most = 2**bits - 1
    group = weight.shape[1] // scales.shape[1]
    energy = gram.diagonal()
    order = torch.argsort(energy, descending=True, stable=True)
    damped = gram[order][:, order] + torch.eye(len(gram), device=gram.device) * max(DAMPING * energy.mean(), 1e-8)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor = torch.linalg.cholesky(inverse, upper=True)

    def by_input(values: "torch.Tensor") -> "torch.Tensor":
        return values.repeat_interleave(group, 1).T[order].contiguous()

    scale, zero = by_input(scales), by_input(zeros)
    left = weight.T[order].contiguous()  # [inputs, outputs]
    integers = torch.empty_like(left)
    for begin in range(0, len(left), BLOCK):
        end = min(begin + BLOCK, len(left))
        part = slice(begin, end)
        errors = _round_block(left[part], scale[part], zero[part], factor[part, part], integers[part], most)
        left[end:] -= factor[part, end:].T @ errors
    result = torch.empty_like(integers)
    result[order] = integers
    return result.T.contiguous()


def _round_block(
    left: "torch.Tensor",
    scale: "torch.Tensor",
    zero: "torch.Tensor",
    factor: "torch.Tensor",
    integers: "torch.Tensor",
    most: int,
) -> "torch.Tensor":
    """Round a block of inputs, [inputs, outputs], one after the other into ``integers``; the errors, of that shape.

    On a GPU by one kernel where it can be had, with the same operations, so the same bits (tests/gpu).
    """
    import torch

    errors = torch.empty_like(left)
    if left.is_cuda and (kernel := _kernel()):
        inputs, outputs = left.shape
        kernel(
            grid=(-(-outputs // LANES), 1, 1),
            block=(LANES, 1, 1),
            args=[left, scale, zero, factor.contiguous(), integers, errors, inputs, outputs, most],
        )
        return errors
    for i in range(len(left)):
        integers[i] = torch.clamp(torch.round(left[i] / scale[i]) + zero[i], 0, most)
        error = (left[i] - (integers[i] - zero[i]) * scale[i]) / factor[i, i]
        left[i + 1 :] -= factor[i, i + 1 :, None] * error
        errors[i] = error
    return errors


@cache
def _kernel() -> Any:
    """None if it cannot be compiled."""
    before = f"constexpr int BLOCK = {BLOCK}, LANES = {LANES};\n"
    try:
        return compile_kernel(Path(__file__).with_suffix(".cu"), "round_block", before=before)
    except UNAVAILABLE as error:
        print(f"error feedback: without the kernel ({error}), which takes longer.", file=sys.stderr, flush=True)
        return None
