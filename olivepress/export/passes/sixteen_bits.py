"""Weights in 16 bits, in graphs that compute in float32: the scales of quantized weights, and what stays float.

A scale for 32 weights of 4 bits is a sixth of their bytes in float32. The checkpoint has float16; the builder casts
it, since the kernel wants what it computes in. So it is cast by the graph: ONNX Runtime folds a Cast of an initializer
when it loads the model, before kernels pack their weights, and nothing is computed later.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

SCALES = 2  # which input of these has them
QUANTIZED = ("MatMulNBits", "GatherBlockQuantized")
ROWS = 4096  # of a weight that are looked at at a time
FLOAT16 = np.finfo(np.float16)


class SixteenBits(ir.passes.InPlacePass):
    """Store float32 weights in 16 bits and cast them.

    Scales become float16 where none loses more than half of its last bit, one part in 2,048. AWQ's lose nothing, they
    were float16. Smaller ones than float16's normal numbers would lose more: a tensor that has one stays as it is.
    The weight of a MatMul is stored in 16 bits where these hold each of its numbers.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        found = [(value, ir.DataType.FLOAT16) for value in _read(graph, QUANTIZED, SCALES) if _fits(value.const_value)]
        found += [(value, exact(value.const_value)) for value in _read(graph, ("MatMul",), 1)]
        narrowed = [(value, dtype) for value, dtype in found if dtype is not None]
        for value, dtype in narrowed:
            wide = ir.val(f"{value.name}/float32", type=value.type, shape=value.shape)
            value.replace_all_uses_with(wide)
            store_as(value, dtype)
            graph.insert_before(graph[0], cast(value, wide))
        return ir.passes.PassResult(model, modified=bool(narrowed))


def exact(tensor: ir.TensorProtocol) -> ir.DataType | None:
    """The type of 16 bits that holds each number of a float32 tensor; None if neither does."""
    array = tensor.numpy()
    blocks = [slice(first, first + ROWS) for first in range(0, len(array), ROWS)]
    for dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        with np.errstate(over="ignore"):
            if all(np.array_equal(array[rows], array[rows].astype(dtype.numpy())) for rows in blocks):
                return dtype
    return None


def store_as(value: ir.Value, dtype: ir.DataType) -> None:
    """Turn an initializer into one of ``dtype``, computed when the data file is written. Its readers stay."""
    tensor = value.const_value

    def narrow() -> ir.Tensor:
        return ir.tensor(tensor.numpy().astype(dtype.numpy()), dtype, name=value.name)

    value.const_value = ir.LazyTensor(narrow, dtype, tensor.shape, name=value.name)
    value.type = ir.TensorType(dtype)


def cast(narrow: ir.Value, wide: ir.Value) -> ir.Node:
    """The node that makes ``wide`` of ``narrow``."""
    return ir.node("Cast", [narrow], {"to": wide.dtype}, outputs=[wide], name=f"{wide.name}/Cast")


def _read(graph: ir.Graph, op_types: tuple[str, ...], place: int) -> Iterator[ir.Value]:
    """The float32 initializers that such nodes read at ``place``, each once; no defaults of the graph's inputs."""
    for value in dict.fromkeys(node.inputs[place] for node in graph if node.op_type in op_types):
        constant = value is not None and value.is_initializer() and not value.is_graph_input()
        if constant and value.dtype == ir.DataType.FLOAT:
            yield value


def _fits(scales: ir.TensorProtocol) -> bool:
    array = scales.numpy()
    size = np.abs(array[array != 0])
    return not size.size or bool(size.min() >= FLOAT16.smallest_normal and size.max() <= FLOAT16.max)
