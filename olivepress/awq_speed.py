"""AutoAWQ's quantizer without its waiting: the same numbers from the same operations, so the same bytes.

AutoAWQ 0.2.9 takes ten seconds a layer where the arithmetic needs less than one. What is changed here, and why each
change is exact (tests/test_awq_speed.py compares the bytes, benchmarks/full_size.py does at full size on a GPU):

- **Packing** loops over columns in Python (a quarter of the time). Here all columns at once: elementwise operations
  and shifts give the same integers in any order.
- **Copies.** A layer goes to the host and back five times, the searched weights are restored from the host 20 times,
  and all activations are copied to the host (two fifths). Here they stay on the device until the layer is done;
  copying changes no number.
- **The mean activation** is a float32 sum on the CPU, whose order no GPU kernel shares. It stays on the CPU, the very
  same call, but runs beside the GPU's work.
- **The clip search** multiplies and sums in two passes over gigabytes for each of 11 candidates (a quarter). On CUDA a
  small kernel does both at once, in the order of PyTorch's own reduction; that order is PyTorch's private affair, so
  the kernel is compared with PyTorch's result at every layer, bit for bit, and left out where one bit differs.
  Elsewhere the two passes run over blocks that fit the cache; each output is still one reduction over the same
  numbers. The mean over tokens, whose order does depend on the block, keeps AutoAWQ's blocks.
- **Memory.** AutoAWQ's loop still holds the layer before, weights and activations, while the next one runs; on the
  device that is 2.3 GiB. Both are dropped as soon as the layer is packed.
- **Waiting.** Every candidate ended in a dozen assertions that wait for the GPU. Losses are now fetched once a
  search, NaN is looked for once a layer.
- **The reference outputs** of the scale search were computed again; the forward pass before it has them already.

Matrix products, the sums of the losses and the means are left as they are: same call, same shapes, same layout.
"""

import sys
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from olivepress.autoawq import import_autoawq
from olivepress.errors import PressError

if TYPE_CHECKING:
    import torch
    from torch import nn

# Layers whose experts need AutoAWQ's own bookkeeping of inputs
MIXTURES = ("mixtral", "deepseek_v2", "deepseek_v3", "qwen3_moe")
PACK_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which of 8 neighbouring outputs goes to which nibble of a word (GEMM layout)
CACHE_BYTES = 1 << 21  # a block of products in the clip search without the kernel: about one core's L2 cache
GRID, SHRINK, TOKENS = 20, 0.5, 512  # AutoAWQ's grid of both searches, how far it clips, on how many tokens

KERNEL = r"""
// out[c, t, g] = sum over group g of x[t, k] * w[c, k]: products rounded to float16, summed in float32 in the order of
// PyTorch's reduction over a contiguous last dimension: lane l adds elements l, l + LANES, ..., then neighbours pair.
constexpr int LANES = GROUP < 32 ? GROUP : 32, VALUES = GROUP / LANES, TILE = 64;

struct __align__(16) Eight { unsigned pair[4]; };  // 8 float16

static __device__ __forceinline__ unsigned product(unsigned a, unsigned b) {
  unsigned result;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
  return result;
}

static __device__ __forceinline__ void widen(unsigned pair, float& low, float& high) {
  asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}"
      : "=f"(low), "=f"(high) : "r"(pair));
}

template <int FIRST, int COUNT> struct Tree {
  static __device__ __forceinline__ float sum(const Eight* x, const Eight* w) {
    return Tree<FIRST, COUNT / 2>::sum(x, w) + Tree<FIRST + COUNT / 2, COUNT / 2>::sum(x, w);
  }
};

template <int FIRST> struct Tree<FIRST, 8> {
  static __device__ __forceinline__ float sum(const Eight* x, const Eight* w) {
    float lane[8];
#pragma unroll
    for (int value = 0; value < VALUES; ++value) {
      const Eight a = x[(FIRST + value * LANES) / 8];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float low, high;
        widen(product(a.pair[i], w[(FIRST + value * LANES) / 8].pair[i]), low, high);
        lane[2 * i] = value ? lane[2 * i] + low : low;
        lane[2 * i + 1] = value ? lane[2 * i + 1] + high : high;
      }
    }
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
  }
};

extern "C" __global__ void group_products(
    const Eight* x, const Eight* w, unsigned short* out, int tokens, int groups) {
  __shared__ Eight tile[TILE][GROUP / 8];
  const int group = blockIdx.x, channel = blockIdx.y * TILE + threadIdx.x, first = blockIdx.z * TILE;
  const int count = min(TILE, tokens - first);
  for (int i = threadIdx.x; i < count * (GROUP / 8); i += TILE) {
    const int token = i / (GROUP / 8), part = i % (GROUP / 8);
    tile[token][part] = x[((size_t)(first + token) * groups + group) * (GROUP / 8) + part];
  }
  Eight mine[GROUP / 8];
#pragma unroll
  for (int i = 0; i < GROUP / 8; ++i) mine[i] = w[((size_t)channel * groups + group) * (GROUP / 8) + i];
  __syncthreads();
#pragma unroll 1
  for (int token = 0; token < count; ++token) {
    unsigned short half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(Tree<0, LANES>::sum(tile[token], mine)));
    out[((size_t)channel * tokens + first + token) * groups + group] = half;
  }
}
"""


def fast_quantizer() -> type:
    """A subclass of AutoAWQ's ``AwqQuantizer`` for the GEMM layout that gives the same checkpoint sooner.

    Made by a function because it needs AutoAWQ imported. Calibration runs all samples at once, as AutoAWQ's default.
    """
    import_autoawq()
    import torch
    from awq.modules.linear import WQLinear_GEMM
    from awq.quantize.quantizer import AwqQuantizer
    from awq.utils.module import get_op_name, set_op_by_name

    class FastQuantizer(AwqQuantizer):
        def quantize(self) -> None:
            self._products = GroupProducts(self.group_size)
            with ThreadPoolExecutor(1) as pool:
                self._sums = HostSums(pool, self.max_chunk_memory)
                super().quantize()

        def pseudo_quantize_tensor(self, w: torch.Tensor) -> tuple[Any, Any, Any]:
            """AutoAWQ's, without the assertions: _apply_quant looks for NaN once."""
            groups = w.reshape(-1, self.group_size)
            if self.zero_point:
                highest, lowest = groups.amax(dim=1, keepdim=True), groups.amin(dim=1, keepdim=True)
                scales = (highest - lowest).clamp(min=1e-5) / 15
                zeros = (-torch.round(lowest / scales)).clamp_(0, 15)
                found = (torch.clamp(torch.round(groups / scales) + zeros, 0, 15) - zeros) * scales
                zeros = zeros.view(len(w), -1)
            else:
                scales = groups.abs().amax(dim=1, keepdim=True).clamp(min=1e-5) / 7
                zeros = None
                found = torch.clamp(torch.round(groups / scales), -8, 7) * scales
            return found.reshape(w.shape), scales.view(len(w), -1), zeros

        def _get_input_feat(self, layer: "nn.Module", named_linears: dict[str, "nn.Linear"]) -> dict[str, Any]:
            """Inputs of the layer's linears, [samples, length, width], on the device; moves on to the next layer."""
            stay_on_device(layer)
            self._inputs: dict[str, torch.Tensor] = {}
            self._outputs: dict[nn.Module, torch.Tensor] = {}
            if self.awq_model.model_type in MIXTURES:
                return super()._get_input_feat(layer, named_linears)
            inputs: dict[str, list[torch.Tensor]] = defaultdict(list)
            shared: dict[int, torch.Tensor] = {}  # address -> the first tensor there: q, k and v have one input
            last: list[tuple[nn.Module, torch.Tensor]] = []  # the linear that ran last, and what it gave

            def on_linear(module: "nn.Module", args: tuple, output: torch.Tensor, name: str) -> None:
                inputs[name].append(args[0].detach())
                last[:] = [(module, output)]

            def on_block(module: "nn.Module", args: tuple, output: Any) -> None:
                output = output[0] if isinstance(output, tuple) else output
                if last and last[0][1] is output:  # attention and MLP end in a linear: one output for both
                    self._outputs[module] = self._outputs[last[0][0]] = output
                last.clear()

            hooks = [
                linear.register_forward_hook(lambda m, a, o, name=name: on_linear(m, a, o, name))
                for name, linear in named_linears.items()
            ]
            hooks += [block.register_forward_hook(on_block) for block in layer.children()]
            self.inps = self._module_forward(
                self.inps.to(next(layer.parameters()).device), layer, self._sanitize_kwargs(self.module_kwargs, layer)
            )
            for hook in hooks:
                hook.remove()
            for name, parts in inputs.items():
                whole = parts[0].contiguous() if len(parts) == 1 else torch.cat(parts)
                same = shared.setdefault(whole.data_ptr(), whole) is not whole
                # apply_scale divides each in place, so each needs its own
                self._inputs[name] = whole.clone() if same else whole
                if same:
                    self._sums.share(whole, self._inputs[name])
                else:
                    self._sums.start(whole)
            return self._inputs

        @torch.no_grad()
        def _search_best_scale(
            self,
            module: "nn.Module",
            prev_op: "nn.Module",
            layers: "list[nn.Linear]",
            inp: torch.Tensor,
            module2inspect: "nn.Module | None" = None,
            kwargs: dict[str, Any] | None = None,
        ) -> tuple[str, tuple[str, ...], torch.Tensor]:
            """(name of the operation before, names of ``layers``, best scale per input channel on the CPU)."""
            inspected = module2inspect or layers[0]
            inp = inp.to(next(inspected.parameters()).device)
            weight = torch.cat([layer.weight for layer in layers], dim=0)
            groups = weight.view(-1, self.group_size)
            share = groups.abs() / (groups.abs().amax(dim=1, keepdim=True) + 1e-6)
            w_mean = share.view(weight.shape).mean(0)
            del weight, groups, share
            tokens = inp.numel() // inp.shape[-1]
            x_mean = (self._sums.result(inp) / tokens).to(inp.dtype)

            arguments = self._sanitize_kwargs({k: v for k, v in (kwargs or {}).items() if k != "use_cache"}, inspected)
            output = self._outputs.get(inspected)
            if output is None:
                output = self._module_forward(inp, inspected, arguments)
            limits = torch.finfo(output.dtype)
            output = output.clip(limits.min, limits.max)
            best = self._compute_best_scale(inp, w_mean, x_mean, inspected, layers, output, arguments)
            return get_op_name(module, prev_op), tuple(get_op_name(module, layer) for layer in layers), best

        def _compute_best_scale(
            self,
            x: torch.Tensor,
            w_mean: torch.Tensor,
            x_mean: torch.Tensor,
            module2inspect: "nn.Module",
            linears2scale: "list[nn.Linear]",
            fp16_output: torch.Tensor,
            kwargs: dict[str, Any],
        ) -> torch.Tensor:
            x_mean, w_mean = x_mean.view(-1), w_mean.view(-1)
            limits = torch.finfo(fp16_output.dtype)
            originals = [linear.weight.data for linear in linears2scale]
            candidates, losses = [], []
            for step in range(GRID):
                ratio = step / GRID
                if self.duo_scaling:
                    scales = (x_mean.pow(ratio) / (w_mean.pow(1 - ratio) + 1e-4)).clamp(min=1e-4)
                else:
                    scales = x_mean.pow(ratio).clamp(min=1e-4).view(-1)
                scales = scales / (scales.max() * scales.min()).sqrt()
                scales[torch.isinf(scales)] = 1
                scales[torch.isnan(scales)] = 1
                row = scales.view(1, -1)
                for linear, original in zip(linears2scale, originals, strict=True):
                    linear.weight.data = self.pseudo_quantize_tensor(original * row)[0] / row
                output = self._module_forward(x, module2inspect, kwargs).clip(limits.min, limits.max)
                losses.append(self._squared_error(fp16_output, output))
                candidates.append(scales)
                del output
            for linear, original in zip(linears2scale, originals, strict=True):
                linear.weight.data = original

            best, least = None, float("inf")
            for scales, parts in zip(candidates, torch.stack(losses).tolist(), strict=True):
                loss = sum(parts) / fp16_output.numel()
                if loss < least:
                    best, least = scales, loss
            if best is None or torch.isnan(best).any():
                raise PressError("AWQ: no scale gives a finite loss: the base's activations overflow float16.")
            return best.cpu()

        def _squared_error(self, expected: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
            """AutoAWQ's loss before the division, one float32 a chunk, still on the device."""
            size = min(self.max_chunk_memory // (expected.element_size() * 2), expected.numel())
            pairs = zip(expected.view(-1).split(size), found.view(-1).split(size), strict=True)
            return torch.stack([(a - b).float().pow_(2).sum() for a, b in pairs])

        @torch.no_grad()
        def _compute_best_clip(self, w: torch.Tensor, input_feat: torch.Tensor) -> torch.Tensor:
            """Largest magnitude to keep, [outputs, groups, 1], for a weight [outputs, inputs]."""
            channels, width = w.shape
            x = input_feat.view(-1, width)
            x = x[:: max(1, len(x) // TOKENS)].to(w.device).contiguous()
            block = 256 if channels % 256 == 0 else 64  # AutoAWQ's, for the mean over tokens
            groups = w.view(channels, 1, -1, self.group_size)
            largest = groups.abs().amax(dim=-1, keepdim=True)
            best, least = largest.clone(), torch.ones_like(largest) * 1e9
            reference = self._products(x, w)
            for step in range(int(SHRINK * GRID)):
                limit = largest * (1 - step / GRID)
                clipped = torch.clamp(groups, -limit, limit)
                found = self._products(x, self.pseudo_quantize_tensor(clipped)[0].view(channels, width))
                squares = found.sub_(reference).pow_(2)
                error = torch.cat([part.mean(dim=1) for part in squares.split(block)]).view(least.shape)
                better = error < least
                least = torch.where(better, error, least)
                best = torch.where(better, limit, best)
            return best.squeeze(1)

        def _apply_quant(self, module: "nn.Module", named_linears: "dict[str, nn.Linear]") -> None:
            """Replace the linears by packed ones, on the host; the layer is done then, and nothing of it on the device.

            AutoAWQ's loop has the linears and their inputs in variables of its own until the next layer has run, so
            they are emptied rather than forgotten.
            """
            for name, linear in named_linears.items():
                linear.half()
                weight, scales, zeros = self.pseudo_quantize_tensor(linear.weight.data)
                if torch.isnan(weight).any() or torch.isnan(scales).any():
                    where = f"{get_op_name(self.model, module)}.{name}"
                    raise PressError(f"AWQ: {where}: its weights became NaN: the base's activations overflow float16.")
                packed = WQLinear_GEMM.from_linear(linear, self.w_bit, self.group_size, init_only=True)
                packed.qweight, packed.qzeros, packed.scales = pack(weight, scales, zeros, self.group_size)
                if linear.bias is not None:
                    packed.bias = linear.bias.clone().half()
                set_op_by_name(module, name, packed.to("cpu"))
                stay_on_device(linear, False)
                linear.weight.data = weight.new_empty(0)
            self._sums.clear()
            self._outputs.clear()
            for tensor in self._inputs.values():
                tensor.data = tensor.new_empty(0)
            stay_on_device(module, False)
            module.cpu()

    return FastQuantizer


def stay_on_device(layer: "nn.Module", stay: bool = True) -> None:
    """Make ``.cpu()`` of ``layer``'s modules do nothing, or undo that.

    AutoAWQ's steps each move the linears to the GPU and back to the host; only the last move is of use.
    """
    for module in layer.modules():
        if stay:
            module.__dict__["cpu"] = lambda module=module: module
        else:
            module.__dict__.pop("cpu", None)


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
    integers = integers.view(outputs, inputs).t().contiguous()
    return _words(integers), _words(zeros.t().to(torch.int32)), scales.t().contiguous().half()


def _words(integers: "torch.Tensor") -> "torch.Tensor":
    """[n, out] int32 below 16 as [n, out/8] int32, 8 in a word."""
    import torch

    words = torch.zeros(len(integers), integers.shape[1] // 8, dtype=torch.int32, device=integers.device)
    for nibble, column in enumerate(PACK_ORDER):
        words |= integers[:, column::8] << (4 * nibble)
    return words


class HostSums:
    """Per channel, the sum of |x| over all tokens: float32 on the CPU, as AutoAWQ has it, in a thread of its own."""

    def __init__(self, pool: ThreadPoolExecutor, chunk_bytes: int) -> None:
        import torch

        self._pool, self._chunk_bytes = pool, chunk_bytes
        self._running: dict[int, Future | list[torch.Tensor]] = {}
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None
        self._stream: torch.cuda.Stream | None = None

    def start(self, x: "torch.Tensor") -> None:
        """Begin with ``x`` [..., channels], which must not change until the result was asked for."""
        import torch

        if not x.is_cuda:
            return  # the CPU has nothing else to do meanwhile
        ready = torch.cuda.Event()
        ready.record()
        self._running[x.data_ptr()] = self._pool.submit(self._on_host, x.view(-1, x.shape[-1]), ready)

    def share(self, x: "torch.Tensor", copy: "torch.Tensor") -> None:
        """``copy`` holds what ``x`` holds."""
        if x.data_ptr() in self._running:
            self._running[copy.data_ptr()] = self._running[x.data_ptr()]

    def result(self, x: "torch.Tensor") -> "torch.Tensor":
        """The sum [channels], float32, on x's device."""
        import torch

        flat = x.view(-1, x.shape[-1])
        running = self._running.get(x.data_ptr())
        if running is None:
            parts = [part.cpu().abs().to(torch.float32).sum(dim=0) for part in flat.split(self._rows(flat))]
        else:
            parts = running.result()
        total = torch.zeros(flat.shape[1], dtype=torch.float32, device=x.device)
        for part in parts:
            total += part.to(x.device)
        return total

    def clear(self) -> None:
        """Forget all tensors; waits for those still running."""
        for running in self._running.values():
            running.result()
        self._running.clear()

    def _rows(self, flat: "torch.Tensor") -> int:
        """AutoAWQ's chunk: its sums are added up chunk by chunk."""
        return min(self._chunk_bytes // (flat.element_size() * 2 * flat.shape[1]), len(flat))

    def _on_host(self, flat: "torch.Tensor", ready: "torch.cuda.Event") -> "list[torch.Tensor]":
        import torch

        if self._stream is None:
            self._stream = torch.cuda.Stream(flat.device)
        rows = self._rows(flat)
        if self._buffers is None or self._buffers[0].numel() < rows * flat.shape[1]:
            size = max(rows * flat.shape[1], self._chunk_bytes // (flat.element_size() * 2))
            self._buffers = (
                torch.empty(size, dtype=flat.dtype, pin_memory=True),
                torch.empty(size, dtype=torch.float32),
            )
        sums = []
        with torch.no_grad(), torch.cuda.stream(self._stream):
            self._stream.wait_event(ready)
            for part in flat.split(rows):
                narrow, wide = (buffer[: part.numel()].view(part.shape) for buffer in self._buffers)
                narrow.copy_(part, non_blocking=True)
                self._stream.synchronize()
                wide.copy_(narrow.abs_())
                sums.append(wide.sum(dim=0))
        return sums


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
            found = self._in_one_pass(x, w)
            if torch.equal(found[:64], self._in_two_passes(x, w[:64])):
                return found
            reason = "this PyTorch sums in another order"
        except (AttributeError, ImportError, OSError, RuntimeError) as error:
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
        """The kernel, by PyTorch's own access to NVRTC, which needs no compiler on the machine."""
        import torch
        from torch.utils import cpp_extension

        # PyTorch asks for the CUDA toolkit's headers, which the kernel does without
        cpp_extension.CUDA_HOME = cpp_extension.CUDA_HOME or sys.prefix
        return torch.cuda._compile_kernel(f"constexpr int GROUP = {self._group_size};\n{KERNEL}", "group_products")
