"""AWQ's second search: at which magnitude to clip each group of weights before rounding."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STEPS, SHRINK, TOKENS = 20, 0.5, 512  # AutoAWQ's: steps of the grid, how far it clips, on how many tokens


def best_clip(
    w: "torch.Tensor", group_size: int, *, errors: "Callable[[torch.Tensor], torch.Tensor]"
) -> "torch.Tensor":
    """Largest magnitude to keep, [outputs, groups, 1], for a weight [outputs, inputs].

    ``errors`` is given the clipped weight and returns what rounding it costs each group, [outputs, groups].
    """
    import torch

    groups = w.view(len(w), 1, -1, group_size)
    largest = groups.abs().amax(dim=-1, keepdim=True)
    best, least = largest.clone(), torch.ones_like(largest) * 1e9
    for step in range(int(SHRINK * STEPS)):
        limit = largest * (1 - step / STEPS)
        error = errors(torch.clamp(groups, -limit, limit).view(w.shape)).view(least.shape)
        better = error < least
        least = torch.where(better, error, least)
        best = torch.where(better, limit, best)
    return best.squeeze(1)


def output_errors(
    w: "torch.Tensor",
    inputs: "torch.Tensor",
    *,
    quantize: "Callable[[torch.Tensor], torch.Tensor]",
    products: "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]",
) -> "Callable[[torch.Tensor], torch.Tensor]":
    """The mean squared error over TOKENS of the ``inputs`` […, width], as AutoAWQ computes it: output by output.

    ``quantize`` rounds a weight, ``products`` sums activations times weights group by group (GroupProducts).
    """
    import torch

    channels, width = w.shape
    x = inputs.view(-1, width)
    x = x[:: max(1, len(x) // TOKENS)].to(w.device).contiguous()
    block = 256 if channels % 256 == 0 else 64  # AutoAWQ's, for the mean over tokens
    expected = products(x, w)

    def errors(clipped: "torch.Tensor") -> "torch.Tensor":
        squares = products(x, quantize(clipped)).sub_(expected).pow_(2)
        return torch.cat([part.mean(dim=1) for part in squares.split(block)])

    return errors


def gram_errors(
    w: "torch.Tensor",
    inputs: "torch.Tensor",
    group_size: int,
    *,
    quantize: "Callable[[torch.Tensor], torch.Tensor]",
) -> "Callable[[torch.Tensor], torch.Tensor]":
    """The same over all tokens of the ``inputs``, from each group's Gram matrix: the error d costs dᵀ (XᵀX) d."""
    channels, width = w.shape
    x = inputs.view(-1, width // group_size, group_size).transpose(0, 1)  # [groups, tokens, size]
    gram = x.transpose(1, 2) @ x / x.shape[1]

    def errors(clipped: "torch.Tensor") -> "torch.Tensor":
        d = (quantize(clipped) - w).view(channels, -1, group_size).transpose(0, 1)
        return ((d @ gram) * d).sum(dim=-1).T

    return errors
