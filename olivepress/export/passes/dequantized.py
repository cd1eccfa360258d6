"""MatMulNBits in the operators that TensorRT has: int4 weights, a DequantizeLinear over groups, a MatMul.

TensorRT's DequantizeLinear takes int4 and no zero point (onnx-tensorrt, docs/operators.md). A weight of a checkpoint is
s·(q - z) with q and z from 0 to 15, which as q - z has five bits. So the two parts of s·(q - 8) + s·(8 - z) are
computed apart: the first by int4 weights without a zero point; the second is one number for a whole group, and so is a
product of the sums of x over groups with a matrix [K / group, N] in the type that the graph computes in. Where every z
is 8 (zero_point: false) there is no second part. No weight is rounded anew.
"""

import numpy as np
import onnx_ir as ir

from olivepress.core.errors import PressError
from olivepress.export.sizes import INT4, SHIFT

MIDDLE = 8  # of 0 to 15: MatMulNBits' zero point where it has none
WEIGHT, SCALES, ZEROS = 1, 2, 3  # which inputs of it are so


class Dequantized(ir.passes.InPlacePass):
    """Take DequantizeLinear, Transpose and MatMul in the place of every MatMulNBits of 4 bits.

    The MatMul keeps the node's name. Raises PressError for other bits, for a group index or a bias, and where groups do
    not divide the inputs.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        sums: dict[tuple[ir.Value, int], ir.Value] = {}
        found = [node for node in model.graph if node.op_type == "MatMulNBits"]
        for node in found:
            _replace(model.graph, node, sums)
        return ir.passes.PassResult(model, modified=bool(found))


def _replace(graph: ir.Graph, node: ir.Node, sums: dict[tuple[ir.Value, int], ir.Value]) -> None:
    """``sums``: what is there already of the sums over groups, which several products of one x share."""
    bits, group, inputs = (node.attributes[name].as_int() for name in ("bits", "block_size", "K"))
    if bits != 4 or inputs % group or any(value is not None for value in node.inputs[ZEROS + 1 :]):
        raise PressError(
            f"{node.name}: {bits} bits in groups of {group} of {inputs} inputs: TensorRT takes 4 bits, in groups that "
            "divide the inputs, in their order. Set quantize.bits: 4 without average_bits, and lm_head: int4 or float."
        )
    groups, outputs = inputs // group, node.attributes["N"].as_int()
    x, base, result = node.inputs[0], f"{INT4}{node.name}", node.outputs[0]
    scales, zeros = (*node.inputs[SCALES:], None)[:2]
    weights = _dequantized(graph, node, base, (outputs, inputs, groups))
    rest = ir.val(f"{base}/product", type=result.type, shape=result.shape)
    nodes = [*weights, ir.node("MatMul", [x, weights[-1].outputs[0]], outputs=[rest], name=node.name)]
    if zeros is not None and (_nibbles(zeros, outputs, groups) != MIDDLE).any():
        if (x, group) not in sums:
            nodes += (before := _group_sums(graph, x, base, groups, group))
            sums[x, group] = before[-1].outputs[0]
        name = f"{zeros.name}/shift"
        matrix = ir.val(name, type=scales.type, shape=[groups, outputs])

        def shifted() -> ir.Tensor:
            steps = scales.const_value.numpy().reshape(outputs, groups)
            shifts = (MIDDLE - _nibbles(zeros, outputs, groups)) * steps.astype(np.float32)
            return ir.tensor(np.ascontiguousarray(shifts.T.astype(steps.dtype)), name=name)

        matrix.const_value = ir.LazyTensor(shifted, scales.dtype, ir.Shape(matrix.shape), name=name)
        shift = ir.val(f"{base}/shift", type=result.type, shape=result.shape)
        both = ir.val(f"{base}/sum", type=result.type, shape=result.shape)
        nodes += [
            ir.node("MatMul", [sums[x, group], matrix], outputs=[shift], name=f"{base}{SHIFT}"),
            ir.node("Add", [rest, shift], outputs=[both], name=f"{base}/Add"),
        ]
        _take_place(graph, zeros, matrix)
    elif zeros is not None:
        _take_place(graph, zeros, None)
    last = nodes[-1].outputs[0]
    ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, [result], [last])


def _dequantized(graph: ir.Graph, node: ir.Node, base: str, sizes: tuple[int, int, int]) -> list[ir.Node]:
    """The nodes that make [K, N] of int4 weights [N, K] and scales [N, groups]; ``sizes``: N, K, groups."""
    outputs, inputs, groups = sizes
    weight, scales = node.inputs[WEIGHT], node.inputs[SCALES]

    def signed() -> ir.PackedTensor:
        # q - 8 in two's complement is q with its highest bit turned; two nibbles lie in a byte in either type
        packed = weight.const_value.numpy().reshape(outputs, inputs // 2) ^ 0x88
        return ir.PackedTensor(packed.reshape(-1), ir.DataType.INT4, shape=[outputs, inputs])

    def by_group() -> ir.Tensor:
        return ir.tensor(scales.const_value.numpy().reshape(outputs, groups))

    values = []
    for old, kind, dtype, shape, make in (
        (weight, "int4", ir.DataType.INT4, [outputs, inputs], signed),
        (scales, "groups", scales.dtype, [outputs, groups], by_group),
    ):
        name = f"{old.name}/{kind}"  # another type or shape than the file declares of the old name
        tensor = ir.LazyTensor(make, dtype, ir.Shape(shape), name=name)
        values.append(ir.val(name, type=ir.TensorType(dtype), shape=shape, const_value=tensor))
        _take_place(graph, old, values[-1])
    rows, columns = (
        ir.val(f"{base}/{name}", type=scales.type, shape=shape)
        for name, shape in (("rows", [outputs, inputs]), ("columns", [inputs, outputs]))
    )
    settings = {"axis": -1, "block_size": inputs // groups}
    return [
        ir.node("DequantizeLinear", values, settings, outputs=[rows], name=f"{base}/DequantizeLinear"),
        ir.node("Transpose", [rows], {"perm": [1, 0]}, outputs=[columns], name=f"{base}/Transpose"),
    ]


def _group_sums(graph: ir.Graph, x: ir.Value, base: str, groups: int, group: int) -> list[ir.Node]:
    """The nodes that make the sums [batch, tokens, groups] of x [batch, tokens, K]."""
    shape, axes = (
        ir.val(f"{base}/{name}", const_value=ir.tensor(np.array(numbers, np.int64), name=f"{base}/{name}"))
        for name, numbers in (("shape", [0, 0, groups, group]), ("axes", [-1]))
    )
    parts, sums = (ir.val(f"{base}/{name}", type=x.type) for name in ("groups", "sums"))
    for value in (shape, axes):
        graph.initializers.add(value)
    return [
        ir.node("Reshape", [x, shape], outputs=[parts], name=f"{base}/Reshape"),
        ir.node("ReduceSum", [parts, axes], {"keepdims": 0}, outputs=[sums], name=f"{base}/ReduceSum"),
    ]


def _nibbles(zeros: ir.Value, outputs: int, groups: int) -> np.ndarray:
    """Zero points [N, groups], int16, of MatMulNBits': two in a byte, each row padded to whole bytes."""
    packed = zeros.const_value.numpy().reshape(outputs, -1)
    return np.stack([packed & 0xF, packed >> 4], axis=-1).reshape(outputs, -1)[:, :groups].astype(np.int16)


def _take_place(graph: ir.Graph, old: ir.Value, new: ir.Value | None) -> None:
    """Put ``new``, or nothing, at the place of an initializer: the data file follows their order."""
    values = [new if value is old else value for value in graph.initializers.values()]
    graph.initializers.clear()
    for value in filter(None, values):
        graph.initializers.add(value)
