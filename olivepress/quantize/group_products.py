"""Products of activations and weights, summed group by group: what AWQ's clip search compares."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.quantize.kernel import UNAVAILABLE, compile_kernel

if TYPE_CHECKING:
    import torch

CACHE_BYTES = 1 << 21  # a block of products without the kernel: about one core's L2 cache


class GroupProducts:
    """x [tokens, width] and w [channels, width], float16, to [channels, tokens, groups]: sums of x * w per group."""

    def __init__(self, group_size: int) -> None:
        self._group_size = group_size
        self._kernel: Any = None  # False once it cannot be had

    def __call__(self, x: "torch.Tensor", w: "torch.Tensor") -> "torch.Tensor":
        """Contiguous float16; products are rounded to float16, sums to float16 from float32."""
        import torch

        if not x.is_cuda or x.dtype != torch.float16 or self._kernel is False:
            return self._in_two_passes(x, w)
        try:
            if self._kernel is None:
                self._kernel = self._compile()
            sums = self._in_one_pass(x, w)
            if torch.equal(sums[:64], self._in_two_passes(x, w[:64])):
                return sums
            reason = "this PyTorch sums in another order"
        except UNAVAILABLE as error:
            reason = str(error)
        print(f"clip search: without the kernel ({reason}), which takes longer.", file=sys.stderr, flush=True)
        self._kernel = False
        return self._in_two_passes(x, w)

    def _in_two_passes(self, x: "torch.Tensor", w: "torch.Tensor") -> "torch.Tensor":
        """PyTorch's multiplication and sum, a block of channels at a time."""
        (tokens, width), channels = x.shape, len(w)
        left = x.view(1, tokens, -1, self._group_size)
        right = w.view(channels, 1, -1, self._group_size)
        out = x.new_empty(channels, tokens, width // self._group_size)
        block = 64 if x.is_cuda else max(1, CACHE_BYTES // (tokens * width * x.element_size()))
        for begin in range(0, channels, block):
            out[begin : begin + block] = (left * right[begin : begin + block]).sum(dim=-1)
        return out

    def _in_one_pass(self, x: "torch.Tensor", w: "torch.Tensor") -> "torch.Tensor":
        tokens, groups = len(x), x.shape[1] // self._group_size
        out = x.new_empty(len(w), tokens, groups)
        self._kernel(
            grid=(groups, len(w) // 64, -(-tokens // 64)),
            block=(64, 1, 1),
            args=[x, w.contiguous(), out, tokens, groups],
        )
        return out

    def _compile(self) -> Any:
        before = f"constexpr int GROUP = {self._group_size};\n"
        return compile_kernel(Path(__file__).with_suffix(".cu"), "group_products", before=before)
