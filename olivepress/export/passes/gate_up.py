"""One MatMulNBits for gate and up, which the GenAI builder exports apart although they read the same input.

Two launches (on a CPU: two trips through the thread pool) become one, and so do those of the LoRA path over them. The
builder already does this for q, k and v.
"""

import re

import numpy as np
import onnx_ir as ir

GATE, UP, PACKED = "gate_proj", "up_proj", "gate_up_proj"
GATE_NODE = re.compile(rf"/model/layers\.\d+/mlp/{GATE}/MatMulNBits")


class PackGateUp(ir.passes.InPlacePass):
    """Pack gate and up of every layer where they differ in nothing but their weights.

    The rows of up follow those of gate, as in Phi-3's own gate_up_proj, and a Split gives the two back under their old
    names. The packed weights are lazy: they are put together when the data file is written, one at a time.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        nodes = {node.name: node for node in graph}
        replaced: dict[str, ir.Value | None] = {}
        for gate in filter(lambda node: GATE_NODE.fullmatch(node.name or ""), nodes.values()):
            up = nodes.get(gate.name.replace(GATE, UP))
            if up is not None and _alike(gate, up):
                weights = [_stacked(*pair) for pair in zip(gate.inputs[1:], up.inputs[1:], strict=True)]
                replaced |= dict(zip((value.name for value in gate.inputs[1:]), weights, strict=True))
                replaced |= dict.fromkeys(value.name for value in up.inputs[1:])
                _replace(graph, gate, up, weights)
        _replace_initializers(graph, replaced)
        return ir.passes.PassResult(model, modified=bool(replaced))


def _alike(gate: ir.Node, up: ir.Node) -> bool:
    """Whether the two nodes can be one: same input, same settings, and weights that no other node reads.

    Weights, scales and perhaps zero points lie by outputs and can be stacked; a group index, the next input, does not.
    """
    if gate.inputs[0] is not up.inputs[0] or len(gate.inputs) != len(up.inputs) or len(gate.inputs) > 4:
        return False
    settings = [
        {name: attribute.value for name, attribute in node.attributes.items() if name != "N"} for node in (gate, up)
    ]
    weights = [*gate.inputs[1:], *up.inputs[1:]]
    own = all(value is not None and value.is_initializer() and len(value.uses()) == 1 for value in weights)
    return settings[0] == settings[1] and own


def _stacked(first: ir.Value, second: ir.Value) -> ir.Value:
    """The packed initializer: both are stacked along their first axis, which is the outputs'."""
    halves = [first.const_value, second.const_value]
    name = first.name.replace(GATE, PACKED)
    shape = ir.Shape([sum(half.shape[0] for half in halves), *halves[0].shape[1:]])

    def stack() -> ir.Tensor:
        whole = np.concatenate([half.numpy() for half in halves])
        for half in halves:
            if isinstance(half, ir.ExternalTensor):
                half.release()  # or its part of the file would stay in memory
        return ir.tensor(whole, name=name)

    return ir.val(name, const_value=ir.LazyTensor(stack, halves[0].dtype, shape, name=name))


def _replace(graph: ir.Graph, gate: ir.Node, up: ir.Node, weights: list[ir.Value]) -> None:
    """Put the packed node and its Split at the place of gate."""
    name = gate.name.replace(GATE, PACKED)
    outputs = gate.attributes["N"].as_int() + up.attributes["N"].as_int()
    half = gate.outputs[0]
    whole = ir.val(f"{name}/output_0", type=half.type, shape=[*half.shape[:-1], outputs])
    packed = ir.node(
        gate.op_type,
        [gate.inputs[0], *weights],
        {**gate.attributes, "N": outputs},
        domain=gate.domain,
        outputs=[whole],
        name=name,
    )
    split = ir.node("Split", [whole], {"axis": -1, "num_outputs": 2}, num_outputs=2, name=f"{name}/Split")
    halves = [half, up.outputs[0]]
    ir.convenience.replace_nodes_and_values(graph, gate, [gate, up], [packed, split], halves, split.outputs)


def _replace_initializers(graph: ir.Graph, replaced: dict[str, ir.Value | None]) -> None:
    """Put new initializers at the places of old ones, None for nothing: the data file follows this order."""
    values = [replaced.get(name, value) for name, value in graph.initializers.items()]
    graph.initializers.clear()
    for value in filter(None, values):
        graph.initializers.add(value)
