"""A checkpoint's own integers, scales and zero points as constants of an OpenVINO graph: nothing is quantized again.

OpenVINO's compressed weights are the same thing as ours: unsigned integers of 4 or 8 bits [out, groups, group size], a
zero point and a scale for each group. (q - z) * s is computed in float32, one rounding, as PyTorch computes it here, so
that the dequantized weights are the same bits; that is checked on what was written (`check_weights`).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError
from olivepress.core.report import progress
from olivepress.modeling.autoawq import packing
from olivepress.modeling.dequantize import linear_weights, settings_of
from olivepress.openvino.graph import linear_layers

if TYPE_CHECKING:
    import numpy as np
    import openvino
    import torch

PREFIX, SUFFIX = "self.", ".weight"  # of a weight's name in the graph that OpenVINO's PyTorch frontend makes


@dataclass(frozen=True)
class Packed:
    """A quantized linear layer. ``integers``: [out, in] uint8; ``zeros``: [out, groups] uint8; ``scales``: [out,
    groups] float16 or float32, as the checkpoint has them; ``bits``: of an integer, 4 or 8."""

    bits: int
    integers: "np.ndarray"
    zeros: "np.ndarray"
    scales: "np.ndarray"


def read_settings(folder: Path) -> dict[str, Any]:
    """quantization_config of the checkpoint in ``folder``; PressError if it is not quantized."""
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8")).get("quantization_config")
    if not settings:
        raise PressError(f"{path}: no quantization_config. Expected what the stage quantize wrote.")
    return settings


def packed_layers(folder: Path) -> Iterator[tuple[str, Packed]]:
    """(module's name, its integers) of every quantized linear layer; PressError for a format that is not known."""
    from safetensors import safe_open

    settings = read_settings(folder)
    for shard in sorted(folder.glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            names = set(file.keys())
            for name in sorted(name for name in names if name.endswith(".qweight")):
                module = name.removesuffix(".qweight")
                parts = {
                    kind: file.get_tensor(f"{module}.{kind}") if f"{module}.{kind}" in names else None
                    for kind in ("qweight", "qzeros", "scales")
                }
                yield module, _unpack(folder, module, settings_of(settings, module), **parts)


def _unpack(
    folder: Path,
    module: str,
    settings: dict[str, Any],
    *,
    qweight: "torch.Tensor",
    qzeros: "torch.Tensor | None",
    scales: "torch.Tensor",
) -> Packed:
    method, bits = settings.get("quant_method"), settings.get("bits")
    if method == "awq" and bits == 4 and qzeros is not None:
        integers, zeros = packing().reverse_awq_order(*packing().unpack_awq(qweight, qzeros, bits), bits)
        return Packed(bits, *(_bytes((part & 15).T) for part in (integers, zeros)), scales.T.contiguous().numpy())
    if method == "olive" and bits in (4, 8):
        from olive.common.quant.utils import WeightQuantizer, unpack_from_uint8

        rows, packed = qweight.shape
        integers = unpack_from_uint8(qweight, bits, (rows, packed * 8 // bits))
        if qzeros is None:
            middle = WeightQuantizer(bits, settings["symmetric"], settings["group_size"], signed=False).midq
            zeros = scales.new_full(scales.shape, middle)
        else:
            zeros = unpack_from_uint8(qzeros, bits, tuple(scales.shape))
        return Packed(bits, _bytes(integers), _bytes(zeros), scales.numpy())
    raise PressError(
        f"{folder / 'config.json'}: {module} is of {method!r} with {bits} bits; expected awq's 4, or olive's "
        "4 or 8, which OpenVINO has, too."
    )


def _bytes(integers: "torch.Tensor") -> "np.ndarray":
    import torch

    return integers.to(torch.uint8).contiguous().numpy()


def put_weights(model: "openvino.Model", folder: Path) -> dict[str, int]:
    """Replace, in place, the float weights of every quantized layer of ``folder``; bits -> how many layers have them.

    PressError if the graph lacks a layer, or has it in another shape.
    """
    constants = {node.get_friendly_name(): node for node in model.get_ops() if node.get_type_name() == "Constant"}
    count: dict[str, int] = {}
    for module, packed in progress(list(packed_layers(folder)), "constants"):
        node = constants.get(f"{PREFIX}{module}{SUFFIX}")
        if node is None or tuple(node.get_output_shape(0)) != packed.integers.shape:
            found = "does not have" if node is None else f"has as {list(node.get_output_shape(0))}"
            raise PressError(
                f"{folder}: {module} {list(packed.integers.shape)}: OpenVINO's graph {found} it. This architecture's "
                "layers are traced under other names: it cannot be exported to OpenVINO without quantizing it again."
            )
        weight = _subgraph(packed, node.get_friendly_name())
        for reader in list(node.output(0).get_target_inputs()):
            reader.replace_source_output(weight.output(0))
        key = f"int{packed.bits}"
        count[key] = count.get(key, 0) + 1
    model.validate_nodes_and_infer_types()
    return count


def _subgraph(packed: Packed, name: str) -> "openvino.Node":
    """(q - z) * s as a float32 [out, in], in the form that OpenVINO's devices look for and keep compressed."""
    import numpy as np
    from openvino import opset13 as ops

    rows, columns = packed.integers.shape
    groups = packed.scales.shape[1]
    integers = _constant(packed.integers.reshape(rows, groups, columns // groups), packed.bits, name)
    zeros = _constant(packed.zeros.reshape(rows, groups, 1), packed.bits, f"{name}/zero_point")
    scales = ops.constant(packed.scales.reshape(rows, groups, 1), name=f"{name}/scale")
    if packed.scales.dtype != np.float32:
        scales = ops.convert(scales, "f32")
    shifted = ops.subtract(ops.convert(integers, "f32"), ops.convert(zeros, "f32"))
    return ops.reshape(ops.multiply(shifted, scales), ops.constant(np.array([rows, columns], np.int64)), False)


def _constant(values: "np.ndarray", bits: int, name: str) -> "openvino.op.Constant":
    """Unsigned integers; of 4 bits, two in a byte, the earlier one in its lower half."""
    import openvino
    from openvino import opset13 as ops

    if bits == 8:
        return ops.constant(values, name=name)
    pairs = values.reshape(-1, 2)
    packed = openvino.Tensor(pairs[:, 0] | pairs[:, 1] << 4, openvino.Shape(values.shape), openvino.Type.u4)
    constant = ops.constant(packed, shared_memory=False)  # else it would read memory that is gone
    constant.set_friendly_name(name)
    return constant


def check_weights(path: Path, folder: Path) -> int:
    """How many layers of the graph in the file ``path`` are dequantized by OpenVINO to the very bits that PyTorch
    computes from the checkpoint in ``folder``; PressError for one that is not."""
    import numpy as np
    import openvino

    core = openvino.Core()
    layers = linear_layers(core.read_model(path))
    found = 0
    quantized = linear_weights(folder, read_settings(folder), lambda name: name.endswith(".qweight"))
    for name, expected in progress(quantized, "weights compared"):
        module = name.removesuffix(SUFFIX)
        if module not in layers:
            raise PressError(f"{path}: lacks the layer {module} of {folder}. Export it again.")
        alone = openvino.Model([layers[module].input_value(1)], [])
        value = core.compile_model(alone, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({})[0]
        if not np.array_equal(value, expected.numpy()):
            raise PressError(f"{path}: {module}: OpenVINO dequantizes other weights than PyTorch. Export it again.")
        found += 1
    return found
