"""AWQ's first search: by how much to scale each input channel before rounding."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from olivepress.core.errors import PressError

if TYPE_CHECKING:
    import torch
    from torch import nn

STEPS = 20  # AutoAWQ's


def mean_weight(linears: "list[nn.Linear]", group_size: int) -> "torch.Tensor":
    """Per input channel [in], the mean over all outputs of |w| as a share of the largest in its group."""
    import torch

    weight = torch.cat([linear.weight for linear in linears], dim=0)
    groups = weight.view(-1, group_size)
    share = groups.abs() / (groups.abs().amax(dim=1, keepdim=True) + 1e-6)
    return share.view(weight.shape).mean(0)


def best_scale(
    linears: "list[nn.Linear]",
    x_mean: "torch.Tensor",
    w_mean: "torch.Tensor | None",
    *,
    quantize: "Callable[[torch.Tensor], torch.Tensor]",
    errors: "Callable[[], torch.Tensor]",
    outputs: int,
) -> "torch.Tensor":
    """The scale [in], on the CPU, with which rounding the ``linears`` costs least.

    ``x_mean`` and ``w_mean`` [in] are the channels' mean activation and weight; without ``w_mean`` activations alone
    decide. ``quantize`` rounds a weight. ``errors`` is called while the linears are rounded, and returns the parts of
    the squared error of ``outputs`` numbers; the linears have their own weights again afterwards. PressError if no
    error is finite.
    """
    import torch

    originals = [linear.weight.data for linear in linears]
    candidates, losses = [], []
    for step in range(STEPS):
        scales = _candidate(step / STEPS, x_mean, w_mean)
        row = scales.view(1, -1)
        for linear, original in zip(linears, originals, strict=True):
            linear.weight.data = quantize(original * row) / row
        losses.append(errors())
        candidates.append(scales)
    for linear, original in zip(linears, originals, strict=True):
        linear.weight.data = original

    best, least = None, float("inf")
    for scales, parts in zip(candidates, torch.stack(losses).tolist(), strict=True):
        loss = sum(parts) / outputs
        if loss < least:
            best, least = scales, loss
    if best is None or torch.isnan(best).any():
        raise PressError(
            "AWQ: no scale gives a finite loss: the base's activations overflow float16, or a layer's weights are zero."
        )
    return best.cpu()


def _candidate(ratio: float, x_mean: "torch.Tensor", w_mean: "torch.Tensor | None") -> "torch.Tensor":
    import torch

    if w_mean is None:
        scales = x_mean.pow(ratio).clamp(min=1e-4)
    else:
        scales = (x_mean.pow(ratio) / (w_mean.pow(1 - ratio) + 1e-4)).clamp(min=1e-4)
    scales = scales / (scales.max() * scales.min()).sqrt()
    scales[torch.isinf(scales)] = 1
    scales[torch.isnan(scales)] = 1
    return scales


def squared_errors(expected: "torch.Tensor", output: "torch.Tensor", chunk_bytes: int) -> "torch.Tensor":
    """AutoAWQ's loss before the division, one float32 a chunk, still on the device."""
    import torch

    limits = torch.finfo(expected.dtype)
    output = output.clip(limits.min, limits.max)
    size = min(chunk_bytes // (expected.element_size() * 2), expected.numel())
    pairs = zip(expected.view(-1).split(size), output.view(-1).split(size), strict=True)
    return torch.stack([(a - b).float().pow_(2).sum() for a, b in pairs])
