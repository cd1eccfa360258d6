"""The native operators in the place of the nodes that LoraInputs adds, taking in what follows a projection.

The node after a projection has to wait for LoRA's share, so the operator does that node's work too where it is one of
two that the GenAI builder writes: the gated SiLU of an MLP whose gate and up are one matrix (gate_up.py), and the
RMSNorm over the sum with the residual stream. The products of int4 and int8 weights are the project's own, too.
operators/native says what each operator computes.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from olivepress.core.errors import PressError
from olivepress.export.projections import Projection, projections


@dataclass(frozen=True)
class Kind:
    """The operators for one execution provider: their ONNX domain, the float type that they compute in, how many values
    they read at a time, whether a node before the projection starts LoRA's share beside it, and of the products that
    they take over, the activations' ``accuracy_level`` (None: any) and how many outputs their MatMulNBits and their
    attention have."""

    domain: str
    dtype: ir.DataType
    multiple: int
    begins: bool
    accuracy_level: int | None
    product_outputs: int
    attention_outputs: int


KINDS = {
    "CUDAExecutionProvider": Kind(
        "olivepress.cuda",
        ir.DataType.FLOAT16,
        8,
        begins=True,
        accuracy_level=None,
        product_outputs=2,
        attention_outputs=4,
    ),
    "CPUExecutionProvider": Kind(
        "olivepress.cpu",
        ir.DataType.FLOAT,
        16,
        begins=False,
        accuracy_level=4,
        product_outputs=1,
        attention_outputs=3,
    ),
}
MAX_NORM = 16_384  # outputs that lora_add_norm (lora.cu) keeps in a block's registers


@dataclass(frozen=True)
class LoraPath:
    """A projection with LoRA inputs, node by node: ``add`` sums what ``projection``, and ``down`` and ``up``, give."""

    projection: ir.Node
    lora_a: ir.Value
    lora_b: ir.Value
    down: ir.Node
    up: ir.Node
    add: ir.Node

    @property
    def output(self) -> ir.Value:
        return self.add.outputs[0]


@dataclass(frozen=True)
class Tail:
    """What ends a path: an operator, what it gives, and for which ``nodes`` after the path it stands."""

    op_type: str
    results: list[ir.Value]
    nodes: list[ir.Node] = field(default_factory=list)
    inputs: list[ir.Value] = field(default_factory=list)
    attributes: dict[str, float] = field(default_factory=dict)


class NativeOperators(ir.passes.InPlacePass):
    """Replace the LoRA path of every projection by the operators of an execution provider, a key of KINDS.

    They read A and B in float16. Raises PressError if a projection is not one that they can compute.
    """

    def __init__(self, provider: str) -> None:
        super().__init__()
        self.kind = KINDS[provider]

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        inputs = {value.name: value for value in graph.inputs}
        for projection in projections(model).values():
            self._replace(graph, _path(inputs, projection))
        graph.opset_imports[self.kind.domain] = 1
        _take_products(graph, self.kind)
        return ir.passes.PassResult(model, modified=True)

    def _replace(self, graph: ir.Graph, path: LoraPath) -> None:
        self._check(path)
        for value in (path.lora_a, path.lora_b):
            value.dtype = ir.DataType.FLOAT16
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float16), name=value.name)
        # ONNX Runtime leaves a result in its input's place where it knows that both have the same shape
        base = path.projection.outputs[0]
        base.type, base.shape = path.output.type, path.output.shape
        inputs = [base, *self._begin(graph, path)]
        tail = _gate(path, self.kind.multiple) or _norm(path) or Tail("LoraAdd", [path.output])
        prefix = _prefix(path)
        operator = ir.node(
            tail.op_type,
            [*inputs, *tail.inputs],
            tail.attributes,
            domain=self.kind.domain,
            num_outputs=len(tail.results),
            name=f"{prefix}/{tail.op_type.removeprefix('Lora')}",
        )
        replaced = [path.down, path.up, path.add, *tail.nodes]
        ir.convenience.replace_nodes_and_values(graph, path.add, replaced, [operator], tail.results, operator.outputs)

    def _check(self, path: LoraPath) -> None:
        dtype, outputs = path.output.dtype, path.output.shape[-1]
        if dtype != self.kind.dtype or outputs % self.kind.multiple:
            raise PressError(
                f"{path.projection.name}: has {outputs} outputs of {dtype.name}, the LoRA operator computes "
                f"{self.kind.dtype.name} and multiples of {self.kind.multiple}. Set lora_operator: false for this "
                "target."
            )

    def _begin(self, graph: ir.Graph, path: LoraPath) -> list[ir.Value]:
        """What the operator after the projection reads besides the projection's result.

        That is x, A and B; where LoRA's share begins before the projection, what the node there gives, which also
        hands x on, so that the projection waits for its launch.
        """
        x = path.down.inputs[0]
        if not self.kind.begins:
            return [x, path.lora_a, path.lora_b]
        prefix = _prefix(path)
        same = ir.val(f"{prefix}/x", type=x.type, shape=x.shape)
        t, delta = ir.val(f"{prefix}/t"), ir.val(f"{prefix}/delta")
        begin = ir.node(
            "LoraBegin",
            [x, path.lora_a, path.lora_b],
            domain=self.kind.domain,
            outputs=[same, t, delta],
            name=f"{prefix}/Begin",
        )
        graph.insert_before(path.projection, begin)
        path.projection.replace_input_with(0, same)
        return [t, delta, same]


def _path(inputs: dict[str, ir.Value], projection: Projection) -> LoraPath:
    """The nodes that LoraInputs has left around a projection."""
    lora_a, lora_b = inputs[projection.lora_a], inputs[projection.lora_b]
    (down,), (up,) = lora_a.consumers(), lora_b.consumers()
    (add,) = up.outputs[0].consumers()
    return LoraPath(add.inputs[0].producer(), lora_a, lora_b, down, up, add)


def _prefix(path: LoraPath) -> str:
    return f"{path.projection.name}/lora"


def _reader(value: ir.Value, op_type: str) -> ir.Node | None:
    """The one node that reads ``value``, if it is an ``op_type``."""
    readers = value.consumers()
    return readers[0] if len(readers) == 1 and readers[0].op_type == op_type else None


def _gate(path: LoraPath, multiple: int) -> Tail | None:
    """For Split, Sigmoid, Mul, Mul: gate · sigmoid(gate) · up."""
    split = _reader(path.output, "Split")
    if split is None or len(split.outputs) != 2 or path.output.shape[-1] % (2 * multiple):
        return None
    gate, up = split.outputs
    product = _reader(up, "Mul")
    sigmoid = next((node for node in gate.consumers() if node.op_type == "Sigmoid"), None)
    silu = sigmoid and _reader(sigmoid.outputs[0], "Mul")
    if not (product and silu) or set(gate.consumers()) != {sigmoid, silu}:
        return None
    if set(silu.inputs) != {gate, sigmoid.outputs[0]} or set(product.inputs) != {silu.outputs[0], up}:
        return None
    return Tail("LoraAddGate", [product.outputs[0]], [split, sigmoid, silu, product])


def _norm(path: LoraPath) -> Tail | None:
    """For SkipSimplifiedLayerNormalization without a bias."""
    norm = _reader(path.output, "SkipSimplifiedLayerNormalization")
    if norm is None or len(norm.inputs) != 3 or norm.inputs[2] is path.output or path.output.shape[-1] > MAX_NORM:
        return None
    skip = norm.inputs[1] if norm.inputs[0] is path.output else norm.inputs[0]
    total = norm.outputs[3] if len(norm.outputs) == 4 else ir.val(f"{_prefix(path)}/sum")
    epsilon = norm.attributes["epsilon"].as_float()
    return Tail("LoraAddNorm", [norm.outputs[0], total], [norm], [skip, norm.inputs[2]], {"epsilon": epsilon})


def _take_products(graph: ir.Graph, kind: Kind) -> None:
    """Turn every MatMulNBits into the project's own, which has the same inputs, where it can be."""
    for node in list(graph):
        if node.op_type != "MatMulNBits" or len(node.inputs) != 4:  # without zero points, or with more than them
            continue
        has = {name: attribute.value for name, attribute in node.attributes.items()}
        known = has.get("bits") in (4, 8) and has.get("block_size") in (32, 64, 128)
        if known and has["K"] % has["block_size"] == 0 and kind.accuracy_level in (None, has.get("accuracy_level")):
            node.domain = kind.domain
            node.resize_outputs(kind.product_outputs)
            for value in node.outputs[1:]:
                value.name = f"{node.name}/float16"
            _take_half_scales(graph, node)


def _take_half_scales(graph: ir.Graph, node: ir.Node) -> None:
    """Read scales that are stored in float16 as they are: ours does, and ONNX Runtime would keep them in float32."""
    cast = node.inputs[2].producer()
    if cast is None or cast.op_type != "Cast" or cast.inputs[0].dtype != ir.DataType.FLOAT16:
        return
    node.replace_input_with(2, cast.inputs[0])
    if not cast.outputs[0].uses():
        graph.remove(cast, safe=True)
