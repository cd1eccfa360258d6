"""Open LoRA inputs on an exported graph: one int4 base, any adapter of any rank loaded over it at run time.

Upstream cannot do this: the GenAI builder takes either a quantized checkpoint or an adapter, and with an adapter it
re-quantizes everything, the LoRA matrices included, and the model then fails when no adapter is active
(onnxruntime-genai #1661, Olive #2277).

A quantized projection y = x·W becomes y = x·W + (x·Aᵀ)·B. A [rank, K] and B [rank, N] are graph inputs with
initializers of rank zero as their defaults, so that without an adapter the added term is an empty product. Both keep
their long side contiguous in memory: A is read as dot products, B as sums of rows, which is what one token wants.

WebGPU's provider has no product with a transposed A, which it would leave to the CPU node by node, and ends by a
segmentation fault where a matrix has no rows: for it A is [K, rank], and the defaults are zeros of rank one. So they
are for DirectML and TensorRT for RTX, by operators that both document (FusedMatMul is none of TensorRT's).
"""

import re

import numpy as np
import onnx_ir as ir

from olivepress.core.errors import PressError
from olivepress.export.projections import BLOCKS, Projection

PROJECTION = re.compile(r"/model/layers\.(?P<layer>\d+)/(?P<block>attn|mlp)/(?P<name>\w+)/MatMul(?:NBits)?")


class LoraInputs(ir.passes.InPlacePass):
    """Give the projections inputs for an adapter, of the type that they compute in.

    ``which`` is a key of BLOCKS: every projection, or attention's alone (PEFT's default modules lie there).
    ``columns``: A is [K, rank], and the defaults have rank one, as WebGPU takes them. Raises PressError if no node is
    known.
    """

    def __init__(self, which: str, *, columns: bool = False) -> None:
        super().__init__()
        self._blocks, self._columns = BLOCKS[which], columns

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        count = 0
        for node in list(model.graph):
            match = PROJECTION.fullmatch(node.name or "")
            if match and match["block"] in self._blocks:
                dtype = node.outputs[0].dtype.numpy().name
                projection = Projection(int(match["layer"]), match["name"], *_shape(node), dtype, self._columns)
                _add_path(model.graph, node, *add_inputs(model.graph, projection), columns=self._columns)
                count += 1
        if not count:
            raise PressError(f"found no projection to give LoRA inputs; nodes are named unlike {PROJECTION.pattern}")
        return ir.passes.PassResult(model, modified=True)


def add_inputs(graph: ir.Graph, projection: Projection) -> tuple[ir.Value, ir.Value]:
    """The graph's new inputs A [rank, K] or [K, rank] and B [rank, N]; by default they add nothing."""
    rank = f"{projection.layer}.{projection.name}.rank"
    values = []
    for name, width in ((projection.lora_a, projection.inputs), (projection.lora_b, projection.outputs)):
        empty = np.zeros((1 if projection.columns else 0, width), projection.dtype)
        shape = [rank, width]
        if projection.columns and name == projection.lora_a:
            empty, shape = empty.T, [width, rank]
        value = ir.val(name, ir.DataType.from_numpy(empty.dtype), shape)
        value.const_value = ir.tensor(empty, name=name)
        graph.inputs.append(value)
        graph.initializers.add(value)
        values.append(value)
    return values[0], values[1]


def _add_path(graph: ir.Graph, node: ir.Node, lora_a: ir.Value, lora_b: ir.Value, *, columns: bool) -> None:
    """Add (x·Aᵀ)·B to what the projection gives: the sum takes over its name and its readers."""
    prefix, x, base = f"{node.name}/lora", node.inputs[0], node.outputs[0]
    result = ir.val(base.name, type=base.type, shape=base.shape)
    base.replace_all_uses_with(result, replace_graph_outputs=True)
    base.name, base.type, base.shape = f"{prefix}/base", None, None  # ONNX Runtime infers the two
    a, b = ir.val(f"{prefix}/a"), ir.val(f"{prefix}/b")
    if columns:
        first = ir.node("MatMul", [x, lora_a], outputs=[a], name=f"{prefix}/A")
    else:
        product = {"domain": "com.microsoft", "name": f"{prefix}/A"}
        first = ir.node("FusedMatMul", [x, lora_a], {"transB": 1}, outputs=[a], **product)
    nodes = [
        first,
        ir.node("MatMul", [a, lora_b], outputs=[b], name=f"{prefix}/B"),
        ir.node("Add", [base, b], outputs=[result], name=f"{prefix}/Add"),
    ]
    graph.insert_after(node, nodes)


def _shape(node: ir.Node) -> tuple[int, int]:
    """(K, N) of a MatMulNBits or MatMul node."""
    if node.op_type == "MatMul":
        inputs, outputs = node.inputs[1].shape
        return inputs, outputs
    return node.attributes["K"].as_int(), node.attributes["N"].as_int()
