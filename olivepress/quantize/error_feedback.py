"""Rounding with error feedback, GPTQ (Frantar et al. 2022, arXiv:2210.17323), on a grid that is given.

Weights are rounded input by input, and what one is off by is made up for in those that are not rounded yet, so that the
layer's output on calibration text changes least. The inputs with the most energy go first (GPTQ's act-order); since the
grid is fixed before, groups stay as they are stored.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DAMPING = 0.1  # of the mean energy, added to every input's; GPTQ has 0.01, which costs other text a little more
BLOCK = 128  # inputs whose updates of later ones are put together into one product


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
        errors = torch.empty_like(left[begin:end])
        for i in range(begin, end):
            integers[i] = torch.clamp(torch.round(left[i] / scale[i]) + zero[i], 0, 2**bits - 1)
            error = (left[i] - (integers[i] - zero[i]) * scale[i]) / factor[i, i]
            left[i + 1 : end] -= factor[i, i + 1 : end, None] * error
            errors[i - begin] = error
        left[end:] -= factor[begin:end, end:].T @ errors
    result = torch.empty_like(integers)
    result[order] = integers
    return result.T.contiguous()
