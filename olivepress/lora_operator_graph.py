"""Where the LoRA operators go in an exported graph: after a projection, taking in what follows it where that is known.

The node after a projection has to wait for LoRA's share, so the operator does that node's work too where it is one of
two that the GenAI builder writes: the gated SiLU of an MLP whose gate and up are one matrix (olivepress/gate_up.py),
and the RMSNorm over the sum with the residual stream. On a CPU the products of int4 and int8 weights are the project's
own, too. olivepress/native says what each operator computes.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from olivepress.errors import PressError

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Kind:
    """The operators for one execution provider: their ONNX domain, the float type that they compute in, how many values
    they read at a time, whether a node before the projection starts LoRA's share beside it, whether there is a
    MatMulNBits among them."""

    domain: str
    element: str
    multiple: int
    begins: bool
    multiplies: bool


KINDS = {
    "CUDAExecutionProvider": Kind("olivepress.cuda", "FLOAT16", 8, True, False),
    "CPUExecutionProvider": Kind("olivepress.cpu", "FLOAT", 16, False, True),
}
MAX_NORM = 16_384  # outputs that lora_add_norm (lora.cu) keeps in a block's registers


class Operators:
    """Makes the nodes for the projections of one graph; ``replaced`` names the nodes that they stand for."""

    def __init__(self, graph: "onnx.GraphProto", provider: str) -> None:
        self.kind = KINDS[provider]
        self.replaced: set[str] = set()
        self._graph = graph
        self._values = {value.name: value for value in graph.value_info}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._readers[name].append(node)

    def around(self, node: "onnx.NodeProto", lora_a: str, lora_b: str) -> "list[onnx.NodeProto]":
        """The projection ``node`` and the operators' nodes around it, which read the two LoRA inputs.

        Raises PressError if the projection is not one that the operators can compute.
        """
        x, output, prefix = node.input[0], node.output[0], f"{node.name}/lora"
        outputs = self._check(node)
        base = f"{prefix}/base"
        before = []
        # ONNX Runtime leaves a result in its input's place where it knows that both have the same shape
        self._declare(output, base)
        node.output[0] = base
        inputs = [base, x, lora_a, lora_b]
        if self.kind.begins:
            same, t, delta = f"{prefix}/x", f"{prefix}/t", f"{prefix}/delta"
            self._declare(x, same)
            node.input[0] = same
            before = [self._make("LoraBegin", [x, lora_a, lora_b], [same, t, delta], prefix)]
            inputs = [base, t, delta, same]
        after = (
            self._gate(output, inputs, prefix, outputs)
            or self._norm(output, inputs, prefix, outputs)
            or self._make("LoraAdd", inputs, [output], prefix)
        )
        return [*before, node, after]

    def take_products(self, nodes: "list[onnx.NodeProto]") -> None:
        """Turn every MatMulNBits of ``nodes`` into the project's own, which has the same inputs, where it can be."""
        if not self.kind.multiplies:
            return
        for node in nodes:
            if node.op_type != "MatMulNBits" or len(node.input) != 4:  # without zero points, or with more than them
                continue
            has = {attribute.name: attribute.i for attribute in node.attribute}
            known = has["accuracy_level"] == 4 and has["bits"] in (4, 8) and has["block_size"] in (32, 64, 128)
            if known and has["K"] % has["block_size"] == 0:
                node.domain = self.kind.domain

    def _check(self, node: "onnx.NodeProto") -> int:
        """How many outputs the projection has."""
        from onnx import TensorProto

        kind = self._values[node.output[0]].type.tensor_type
        outputs, element = kind.shape.dim[-1].dim_value, TensorProto.DataType.Name(kind.elem_type)
        if element != self.kind.element or outputs % self.kind.multiple:
            raise PressError(
                f"{node.name}: has {outputs} outputs of {element}, the LoRA operator computes {self.kind.element} and "
                f"multiples of {self.kind.multiple}. Set lora_operator: false for this target."
            )
        return outputs

    def _declare(self, like: str, name: str) -> None:
        self._graph.value_info.add().CopyFrom(self._values[like])
        self._graph.value_info[-1].name = name

    def _make(
        self, op_type: str, inputs: list[str], outputs: list[str], prefix: str, **attributes: float
    ) -> "onnx.NodeProto":
        from onnx import helper

        name = f"{prefix}/{op_type.removeprefix('Lora')}"
        return helper.make_node(op_type, inputs, outputs, name, domain=self.kind.domain, **attributes)

    def _reader(self, name: str, op_type: str) -> "onnx.NodeProto | None":
        """The one node that reads ``name``, if it is an ``op_type``."""
        readers = self._readers[name]
        return readers[0] if len(readers) == 1 and readers[0].op_type == op_type else None

    def _gate(self, output: str, inputs: list[str], prefix: str, outputs: int) -> "onnx.NodeProto | None":
        """For Split, Sigmoid, Mul, Mul: gate · sigmoid(gate) · up."""
        split = self._reader(output, "Split")
        if split is None or len(split.output) != 2 or outputs % (2 * self.kind.multiple):
            return None
        gate, up = split.output
        product = self._reader(up, "Mul")
        sigmoid = next((node for node in self._readers[gate] if node.op_type == "Sigmoid"), None)
        silu = sigmoid and self._reader(sigmoid.output[0], "Mul")
        if not (product and silu) or self._readers[gate] not in ([sigmoid, silu], [silu, sigmoid]):
            return None
        if set(silu.input) != {gate, sigmoid.output[0]} or set(product.input) != {silu.output[0], up}:
            return None
        self.replaced |= {split.name, sigmoid.name, silu.name, product.name}
        return self._make("LoraAddGate", inputs, list(product.output), prefix)

    def _norm(self, output: str, inputs: list[str], prefix: str, outputs: int) -> "onnx.NodeProto | None":
        """For SkipSimplifiedLayerNormalization without a bias."""
        norm = self._reader(output, "SkipSimplifiedLayerNormalization")
        if norm is None or len(norm.input) != 3 or norm.input[2] == output or outputs > MAX_NORM:
            return None
        skip = norm.input[1] if norm.input[0] == output else norm.input[0]
        results = [norm.output[0], norm.output[3] if len(norm.output) == 4 else f"{prefix}/sum"]
        epsilon = next(attribute.f for attribute in norm.attribute if attribute.name == "epsilon")
        self.replaced.add(norm.name)
        return self._make("LoraAddNorm", [*inputs, skip, norm.input[2]], results, prefix, epsilon=epsilon)
