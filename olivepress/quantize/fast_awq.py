"""AutoAWQ's quantizer without its waiting: the same numbers from the same operations, so the same bytes.

AutoAWQ 0.2.9 takes ten seconds a layer where the arithmetic needs less than one. What is changed here, and why each
change is exact (tests/pipeline/test_awq_speed.py compares the bytes, benchmarks/full_size.py does on a GPU):

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

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from olivepress.core.errors import PressError
from olivepress.modeling.autoawq import import_autoawq
from olivepress.quantize.clip_search import best_clip, output_errors
from olivepress.quantize.grid import to_grid
from olivepress.quantize.group_products import GroupProducts
from olivepress.quantize.host_sums import HostSums
from olivepress.quantize.layer_recorder import LayerRecorder
from olivepress.quantize.packing import pack
from olivepress.quantize.scale_search import best_scale, mean_weight, squared_errors

import_autoawq()

from awq.modules.linear import WQLinear_GEMM  # noqa: E402 - only after the line above, as the two below
from awq.quantize.quantizer import AwqQuantizer  # noqa: E402
from awq.utils.module import get_op_name, set_op_by_name  # noqa: E402

if TYPE_CHECKING:
    from torch import nn

# Layers whose experts need AutoAWQ's own bookkeeping of inputs
MIXTURES = ("mixtral", "deepseek_v2", "deepseek_v3", "qwen3_moe")


class FastQuantizer(AwqQuantizer):
    """AutoAWQ's quantizer for the GEMM layout, the same checkpoint sooner.

    Calibration runs all samples at once, as AutoAWQ's default. The module is imported by those only who quantize: it
    loads torch and AutoAWQ. AutoAWQ calls every method but ``_rounded`` and ``_errors``.
    """

    def quantize(self) -> None:
        self._products = GroupProducts(self.group_size)
        with ThreadPoolExecutor(1) as pool:
            self._sums = HostSums(pool, self.max_chunk_memory)
            super().quantize()

    def pseudo_quantize_tensor(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """AutoAWQ's, without the assertions: _apply_quant looks for NaN once."""
        return to_grid(w, self.group_size, zero_point=self.zero_point, bits=self.w_bit)

    def _rounded(self, w: torch.Tensor) -> torch.Tensor:
        return self.pseudo_quantize_tensor(w)[0]

    def _get_input_feat(self, layer: "nn.Module", named_linears: "dict[str, nn.Linear]") -> dict[str, torch.Tensor]:
        """Inputs of the layer's linears, [samples, length, width], on the device; moves on to the next layer."""
        stay_on_device(layer)
        self._inputs: dict[str, torch.Tensor] = {}
        self._outputs: dict[nn.Module, torch.Tensor] = {}
        if self.awq_model.model_type in MIXTURES:
            self._inputs = super()._get_input_feat(layer, named_linears)
            return self._inputs
        arguments = self._sanitize_kwargs(self.module_kwargs, layer)
        with LayerRecorder(layer, named_linears) as recorder:
            self.inps = self._module_forward(self.inps.to(next(layer.parameters()).device), layer, arguments)
        self._outputs = recorder.outputs
        shared: dict[int, torch.Tensor] = {}  # address -> the first tensor there: q, k and v have one input
        for name, parts in recorder.inputs.items():
            whole = parts[0].contiguous() if len(parts) == 1 else torch.cat(parts)
            if shared.setdefault(whole.data_ptr(), whole) is whole:
                self._inputs[name] = whole
                self._sums.start(whole)
            else:  # apply_scale divides each in place, so each needs its own
                self._inputs[name] = whole.clone()
                self._sums.share(whole, self._inputs[name])
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
        w_mean = mean_weight(layers, self.group_size) if self.duo_scaling else None
        x_mean = (self._sums.result(inp) / (inp.numel() // inp.shape[-1])).to(inp.dtype)
        arguments = self._sanitize_kwargs({k: v for k, v in (kwargs or {}).items() if k != "use_cache"}, inspected)
        errors, outputs = self._errors(inspected, inp, arguments)
        best = best_scale(layers, x_mean, w_mean, quantize=self._rounded, errors=errors, outputs=outputs)
        return get_op_name(module, prev_op), tuple(get_op_name(module, layer) for layer in layers), best

    def _errors(
        self, inspected: "nn.Module", inp: torch.Tensor, arguments: dict[str, Any]
    ) -> tuple[Callable[[], torch.Tensor], int]:
        """(what gives the squared error of ``inspected``'s output with the weights that it has then, of how many)."""
        forward = partial(self._module_forward, inp, inspected, arguments)
        output = self._outputs.get(inspected)
        if output is None:
            output = forward()
        limits = torch.finfo(output.dtype)
        expected = output.clip(limits.min, limits.max)
        return lambda: squared_errors(expected, forward(), self.max_chunk_memory), expected.numel()

    @torch.no_grad()
    def _compute_best_clip(self, w: torch.Tensor, input_feat: torch.Tensor) -> torch.Tensor:
        errors = output_errors(w, input_feat, quantize=self._rounded, products=self._products)
        return best_clip(w, self.group_size, errors=errors)

    def _apply_quant(self, module: "nn.Module", named_linears: "dict[str, nn.Linear]") -> None:
        """Replace the linears by packed ones, on the host; the layer is done then, and nothing of it on the device.

        AutoAWQ's loop has the linears and their inputs in variables of its own until the next layer has run, so they
        are emptied rather than forgotten.
        """
        for name, linear in named_linears.items():
            set_op_by_name(module, name, self._packed(name, f"{get_op_name(self.model, module)}.{name}", linear).cpu())
            stay_on_device(linear, False)
            linear.weight.data = linear.weight.new_empty(0)
        self._sums.clear()
        self._outputs.clear()
        for tensor in self._inputs.values():
            tensor.data = tensor.new_empty(0)
        stay_on_device(module, False)
        module.cpu()

    def _packed(self, name: str, full_name: str, linear: "nn.Linear") -> "nn.Module":
        """What takes the place of ``linear``, which is called ``name`` in its layer: its weights as they are stored."""
        linear.half()
        weight, scales, zeros = self.pseudo_quantize_tensor(linear.weight.data)
        check_finite(full_name, weight, scales)
        return packed_linear(linear, self.group_size, *pack(weight, scales, zeros, self.group_size))


def packed_linear(
    linear: "nn.Linear", group_size: int, qweight: torch.Tensor, qzeros: torch.Tensor, scales: torch.Tensor
) -> "nn.Module":
    """AutoAWQ's module in the place of ``linear``, of what packing.py gives."""
    packed = WQLinear_GEMM.from_linear(linear, 4, group_size, init_only=True)
    packed.qweight, packed.qzeros, packed.scales = qweight, qzeros, scales
    if linear.bias is not None:
        packed.bias = linear.bias.clone().half()
    return packed


def check_finite(name: str, *tensors: torch.Tensor) -> None:
    """PressError for a layer whose weights overflowed."""
    if any(torch.isnan(tensor).any() for tensor in tensors):
        raise PressError(f"AWQ: {name}: its weights became NaN: the base's activations overflow float16.")


class SymmetricUpstream(AwqQuantizer):
    """AutoAWQ's own quantizer on a symmetric grid, with the explicit zero points that its GEMM layout stores."""

    def pseudo_quantize_tensor(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        w, scales, _ = super().pseudo_quantize_tensor(w)
        return w, scales, torch.full_like(scales, 8)  # the middle of 0…15, which is what the layout means by zero


def stay_on_device(layer: "nn.Module", stay: bool = True) -> None:
    """Make ``.cpu()`` of ``layer``'s modules do nothing, or undo that.

    AutoAWQ's steps each move the linears to the GPU and back to the host; only the last move is of use.
    """
    for module in layer.modules():
        if stay:
            module.__dict__["cpu"] = lambda module=module: module
        else:
            module.__dict__.pop("cpu", None)
