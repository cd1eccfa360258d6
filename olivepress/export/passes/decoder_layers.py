"""A decoder layer of the operators' graph on a CPU as one operator, where it is one that the operator knows.

For a token a layer's nine nodes have less to compute than ONNX Runtime to do for them. ``DecoderLayer`` computes what
they do, to the bit (operators/native/layer.c); a layer of another shape keeps its nodes.
"""

from typing import TYPE_CHECKING

import onnx_ir as ir

from olivepress.export.passes.native_operators import KINDS

if TYPE_CHECKING:
    import onnx

LAYER = "DecoderLayer"
DOMAIN = KINDS["CPUExecutionProvider"].domain
PARTS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")  # the products, in the order of the operator's inputs
PRODUCT = ("K", "N", "bits", "block_size")  # attributes, of which the operator has one a part
ATTENTION = ("num_heads", "kv_num_heads", "scale", "local_window_size", "do_rotary")
FIRST = 8  # inputs before those of the parts: x, skip, past keys and values, lengths, total length, two norms
EACH = 5  # of a part: weights, scales, zero points, A, B


class DecoderLayers(ir.passes.InPlacePass):
    """Put one operator in the place of the nine of each layer that NativeOperators and HalfCache have left."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        layers = [layer for node in model.graph if (layer := _layer(node))]
        for nodes in layers:
            _replace(model.graph, *nodes)
        return ir.passes.PassResult(model, modified=bool(layers))


def _layer(attention: ir.Node) -> tuple[ir.Node, ...] | None:
    """The nine nodes around a layer's attention, in order; None if it has others, or other nodes read their values."""
    if not _is(attention, "GroupQueryAttention") or attention.inputs[1] is not None:
        return None
    add = attention.inputs[0].producer()
    qkv = add and add.inputs[0].producer()
    if not _is(add, "LoraAdd") or not _is(qkv, "MatMulNBits") or add.inputs[1] is not qkv.inputs[0]:
        return None
    nodes = [qkv, add, attention]
    between = [qkv.outputs[0], add.outputs[0]]
    value = attention.outputs[0]
    for tail in ("LoraAddNorm", "LoraAddGate", "LoraAddNorm"):
        product = next((reader for reader in value.consumers() if _is(reader, "MatMulNBits")), None)
        after = next((reader for reader in product.outputs[0].consumers()), None) if product else None
        if after is None or not _is(after, tail) or after.inputs[1] is not value:
            return None
        nodes += [product, after]
        between += [value, product.outputs[0]]
        value = after.outputs[0]
    first, last = nodes[4], nodes[8]
    if last.inputs[4] is not first.outputs[1]:
        return None
    between.append(first.outputs[1])
    inside = set(nodes)
    alone = all(set(one.consumers()) <= inside and not one.is_graph_output() for one in between)
    return tuple(nodes) if alone else None


def _is(node: ir.Node | None, op_type: str) -> bool:
    return node is not None and (node.domain, node.op_type) == (DOMAIN, op_type)


def _replace(graph: ir.Graph, *nodes: ir.Node) -> None:
    qkv, add, attention, out, first, gate_up, gate, down, last = nodes
    keys, values, lengths, total, *tables = attention.inputs[3:]
    inputs = [qkv.inputs[0], first.inputs[4], keys, values, lengths, total, first.inputs[5], last.inputs[5]]
    for product, lora in ((qkv, add), (out, first), (gate_up, gate), (down, last)):
        inputs += [*product.inputs[1:4], *lora.inputs[2:4]]
    products = [qkv, out, gate_up, down]
    attributes = {name: [node.attributes[name].as_int() for node in products] for name in PRODUCT}
    attributes["epsilon"] = [node.attributes["epsilon"].as_float() for node in (first, last)]
    attributes |= {name: attention.attributes[name].value for name in ATTENTION}
    if "widths" in add.attributes:
        attributes["widths"] = add.attributes["widths"].value
    old = [*last.outputs, *attention.outputs[1:]]
    layer = ir.node(
        LAYER,
        [*inputs, *tables],
        attributes,
        domain=DOMAIN,
        num_outputs=len(old),
        name=attention.name.removesuffix(attention.op_type) + LAYER,
    )
    ir.convenience.replace_nodes_and_values(graph, last, list(nodes), [layer], old, layer.outputs)


def expand(proto: "onnx.ModelProto") -> None:
    """The nine nodes in the place of each DecoderLayer, in a graph as it was before this pass but for names."""
    nodes = []
    for node in proto.graph.node:
        nodes += _nodes(node) if (node.domain, node.op_type) == (DOMAIN, LAYER) else [node]
    copies = [type(node)() for node in nodes]
    for copy, node in zip(copies, nodes, strict=True):
        copy.CopyFrom(node)
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def _nodes(layer: "onnx.NodeProto") -> "list[onnx.NodeProto]":
    from onnx import helper

    has = {attribute.name: helper.get_attribute_value(attribute) for attribute in layer.attribute}
    x, skip, keys, values, lengths, total, *norms = layer.input[:FIRST]
    tables = layer.input[FIRST + EACH * len(PARTS) :]
    y, added, *cache = layer.output
    made = []

    def add(op_type: str, name: str, inputs: list[str], outputs: list[str], **attributes: object) -> str:
        node = helper.make_node(op_type, inputs, outputs, f"{layer.name}/{name}", domain=DOMAIN, **attributes)
        made.append(node)
        return outputs[0]

    def part(number: int, x: str, tail: str, more: list[str], outputs: list[str], **attributes: object) -> str:
        name, first = PARTS[number], FIRST + EACH * number
        product = {key: has[key][number] for key in PRODUCT} | {"accuracy_level": 4}
        base = add("MatMulNBits", name, [x, *layer.input[first : first + 3]], [f"{layer.name}/{name}"], **product)
        inputs = [base, x, *layer.input[first + 3 : first + EACH], *more]
        return add(tail, f"{name}/{tail}", inputs, outputs, **attributes)

    def inner(name: str) -> str:
        return f"{layer.name}/{name}"

    blocks = {"widths": has["widths"]} if "widths" in has else {}
    qkv = part(0, x, "LoraAdd", [], [inner("qkv")], **blocks)
    attended = add(
        "GroupQueryAttention",
        "attention",
        [qkv, "", "", keys, values, lengths, total, *tables],
        [inner("attended"), *cache],
        **{key: has[key] for key in ATTENTION},
    )
    first, last = has["epsilon"]
    normed = part(1, attended, "LoraAddNorm", [skip, norms[0]], [inner("normed"), inner("sum")], epsilon=first)
    gated = part(2, normed, "LoraAddGate", [], [inner("gated")])
    part(3, gated, "LoraAddNorm", [inner("sum"), norms[1]], [y, added], epsilon=last)
    return made
