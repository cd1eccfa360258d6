"""Rounding to an integer grid, as AutoAWQ does it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def to_grid(
    w: "torch.Tensor", group_size: int, *, zero_point: bool, bits: int = 4
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """(rounded weights, scales, zero points) of ``w`` [outputs, …, inputs]; scales and zeros are [outputs, groups].

    All in w's dtype. Without ``zero_point`` the grid is symmetric, and the zero points are explicit nevertheless: the
    GEMM layout stores them.
    """
    import torch

    groups, top, middle = w.reshape(-1, group_size), 2**bits - 1, 2 ** (bits - 1)
    if zero_point:
        highest, lowest = groups.amax(dim=1, keepdim=True), groups.amin(dim=1, keepdim=True)
        scales = (highest - lowest).clamp(min=1e-5) / top
        zeros = (-torch.round(lowest / scales)).clamp_(0, top)
        rounded = (torch.clamp(torch.round(groups / scales) + zeros, 0, top) - zeros) * scales
    else:
        scales = groups.abs().amax(dim=1, keepdim=True).clamp(min=1e-5) / (middle - 1)
        zeros = torch.full_like(scales, middle)  # which is what the layout means by zero
        rounded = torch.clamp(torch.round(groups / scales), -middle, middle - 1) * scales
    return rounded.reshape(w.shape), scales.view(len(w), -1), zeros.view(len(w), -1)
