"""AWQ's two searches in float32 and with less to compute, for a CPU: not AutoAWQ's bytes, but a checkpoint as good.

A CPU multiplies float16 at a fifth of float32's speed, and AutoAWQ computes every candidate's outputs for every token.
What is done instead (docs/log/2026-11-27-quantizers.md has what it gains and costs):

- **float32** from the embeddings on; weights and scales become float16 when they are packed.
- **Gram matrices.** Where a search looks at the output of one linear layer, the squared error summed over tokens is
  tr(D G Dᵀ), with D the rounding error of the weights and G = XᵀX, however many tokens there are. The clip search looks
  at one group of inputs at a time, so there G is as small as a group, and covers all tokens where AutoAWQ takes 512.
- **Error feedback** (GPTQ's, error_feedback.py) where the weights are rounded, on the grid that the searches found: the
  Gram matrices are there.
- **Fewer tokens** where the search goes through a block (attention, MLP): BLOCK_TOKENS of them, evenly spread.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from olivepress.quantize.clip_search import best_clip, gram_errors
from olivepress.quantize.error_feedback import round_with_feedback
from olivepress.quantize.fast_awq import FastQuantizer, check_finite, packed_linear
from olivepress.quantize.packing import pack_integers

if TYPE_CHECKING:
    from torch import nn

BLOCK_TOKENS = 512


class QuickQuantizer(FastQuantizer):
    """AutoAWQ's quantizer over a float32 model, with the shorter ways to the same errors that the module names."""

    def _errors(
        self, inspected: "nn.Module", inp: torch.Tensor, arguments: dict[str, Any]
    ) -> tuple[Callable[[], torch.Tensor], int]:
        if isinstance(inspected, torch.nn.Linear):
            return _linear_errors(inspected, inp)
        samples, length = inp.shape[0], inp.shape[-2]
        if inp.dim() == 3 and samples * length > BLOCK_TOKENS:
            step = samples // max(1, BLOCK_TOKENS // length)
            inp = inp[::step]
            arguments = {name: _take(value, samples, step) for name, value in arguments.items()}
            recorded = self._outputs.get(inspected)
            if recorded is not None:
                self._outputs[inspected] = recorded[::step]
        return super()._errors(inspected, inp, arguments)

    @torch.no_grad()
    def _compute_best_clip(self, w: torch.Tensor, input_feat: torch.Tensor) -> torch.Tensor:
        errors = gram_errors(w, input_feat, self.group_size, quantize=self._rounded)
        return best_clip(w, self.group_size, errors=errors)

    def _packed(self, name: str, full_name: str, linear: "nn.Linear") -> "nn.Module":
        return packed_linear(linear, self.group_size, *pack_integers(*self._integers(name, full_name, linear)))

    def _integers(
        self, name: str, full_name: str, linear: "nn.Linear"
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(integers, scales, zero points) of a linear, by outputs; the scales as they are stored, in float16."""
        weight = linear.weight.data
        rounded, scales, zeros = self.pseudo_quantize_tensor(weight)
        check_finite(full_name, rounded, scales)
        scales = scales.half()
        x = self._inputs[name].view(-1, weight.shape[1]).to(weight.device, weight.dtype)
        return round_with_feedback(weight, x.T @ x, scales.float(), zeros, bits=self.w_bit), scales, zeros


def _linear_errors(linear: "nn.Linear", inp: torch.Tensor) -> tuple[Callable[[], torch.Tensor], int]:
    """As FastQuantizer._errors, from the Gram matrix of the inputs."""
    x = inp.view(-1, inp.shape[-1])
    gram, original = x.T @ x, linear.weight.data

    def errors() -> torch.Tensor:
        d = linear.weight.data - original
        return ((d @ gram) * d).sum().view(1)

    return errors, len(x) * len(original)


def _take(value: Any, samples: int, step: int) -> Any:
    """Every ``step``-th of the ``samples`` in an argument of a block, if it has one entry for each."""
    if isinstance(value, tuple):
        return tuple(_take(entry, samples, step) for entry in value)
    per_sample = isinstance(value, torch.Tensor) and value.dim() > 1 and len(value) == samples > 1
    return value[::step] if per_sample else value
