"""The graph for WebAssembly, whose weights become floats when it is loaded.

ONNX Runtime's WebAssembly has no product of 4-bit weights: MatMulNBits makes the whole matrix into floats for every
token, nine tenths of the time. Here a DequantizeLinear does so once, before the first (constant folding, which ONNX
Runtime does to such a node with ``session.disable_quant_qdq``); the files of weights are the same. It takes the memory
of the floats, so that it is for models that are small enough.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

LARGEST = 3 * 2**28  # bytes of floats; loading takes three times as much, and WebAssembly's 32 bits reach 2**32
OPSET = 21  # the first whose DequantizeLinear has blocks and 4 bits


def with_floats(model: "onnx.ModelProto") -> "onnx.ModelProto | None":
    """A copy of ``model`` with plain products of dequantized weights.

    A MatMulNBits stays where its blocks are not whole bytes, or it has other inputs than weights, scales and zero
    points. None where the floats are too many, or no product could be one of floats.
    """
    import onnx

    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    found = onnx.ModelProto()
    found.CopyFrom(model)
    weights = {value.name: value for value in found.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    size = 0
    for node in found.graph.node:
        plain = _product(node, weights) if node.op_type == "MatMulNBits" else None
        if plain is None:
            nodes.append(node)
            continue
        made, values, count = plain
        nodes += made
        size += 4 * count
        found.graph.initializer.extend(values)
    if opset < OPSET or not 0 < size <= LARGEST:
        return None
    del found.graph.node[:]
    found.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [value for value in found.graph.initializer if value.name in used]
    del found.graph.initializer[:]
    found.graph.initializer.extend(kept)
    return found


def _product(
    node: "onnx.NodeProto", weights: "dict[str, onnx.TensorProto]"
) -> "tuple[list[onnx.NodeProto], list[onnx.TensorProto], int] | None":
    """The nodes in the place of a MatMulNBits, their initializers, and how many weights they have."""
    import onnx

    numbers = {each.name: each.i for each in node.attribute}
    bits, block = numbers["bits"], numbers["block_size"]
    inputs, outputs = numbers["K"], numbers["N"]
    blocks = inputs // block
    if len(node.input) != 4 or bits not in (4, 8) or inputs % block or blocks * bits % 8:
        return None
    given, quantized, scales, zeros = node.input
    if quantized not in weights or zeros not in weights:
        return None
    values = [
        onnx.helper.make_tensor(f"{node.name}/blocks", onnx.TensorProto.INT64, [2], [outputs, blocks]),
        _retyped(weights[quantized], f"{node.name}/weights", bits, [outputs, inputs]),
        _retyped(weights[zeros], f"{node.name}/zeros", bits, [outputs, blocks]),
    ]
    make = onnx.helper.make_node
    name = f"{node.name}/floats"
    made = [
        make("Reshape", [scales, values[0].name], [f"{name}/scales"], f"{name}/Reshape"),
        make(
            "DequantizeLinear",
            [values[1].name, f"{name}/scales", values[2].name],
            [name],
            f"{name}/DequantizeLinear",
            axis=1,
            block_size=block,
        ),
        make("Transpose", [name], [f"{name}/turned"], f"{name}/Transpose", perm=[1, 0]),
        make("MatMul", [given, f"{name}/turned"], list(node.output), node.name),
    ]
    return made, values, inputs * outputs


def _retyped(value: "onnx.TensorProto", name: str, bits: int, shape: list[int]) -> "onnx.TensorProto":
    """The same bytes, uint8 before, as [rows, columns] of ``bits``: two of 4 bits in each, the lower first."""
    import onnx

    found = onnx.TensorProto()
    found.CopyFrom(value)
    found.name = name
    found.data_type = onnx.TensorProto.UINT4 if bits == 4 else onnx.TensorProto.UINT8
    del found.dims[:]
    found.dims.extend(shape)
    return found
