"""The key-value cache of a CPU graph in float16: the project's attention in the place of ONNX Runtime's.

A token's step reads the whole cache, which in float32 soon has more bytes than the weights. ONNX Runtime's
GroupQueryAttention keeps it in the type that it computes in; the operator of that name in ``olivepress.cpu`` computes
in float32 and keeps float16 (operators/native/attention.c). ONNX Runtime GenAI asks the graph which type its cache has.
"""

from collections.abc import Sequence

import onnx_ir as ir

from olivepress.core import report
from olivepress.export.passes.native_operators import KINDS, Kind

INPUTS = 9  # of the operator: ONNX Runtime's has more, for what it does not compute
KEYS, VALUES = 3, 4  # of them
SIZES = range(16, 257, 16)  # values of a head
# What the operator reads of a node, with ONNX Runtime's defaults; of other attributes only what is 0 is understood.
DEFAULTS: dict[str, int | float] = {"scale": 0.0, "local_window_size": -1, "do_rotary": 0}


class HalfCache(ir.passes.InPlacePass):
    """Turn every GroupQueryAttention into the project's own, and the cache that it reads and gives into float16.

    All or none, with a note why: a graph has one type of cache.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(
            model, modified=take_attention(model, "CPUExecutionProvider", SIZES, "the key-value cache stays in float32")
        )


def take_attention(model: ir.Model, provider: str, sizes: Sequence[int], otherwise: str) -> bool:
    """Turn every GroupQueryAttention into the operator of ``provider``, if it can compute them all; whether it did.

    ``sizes``: of heads, in values, that the operator knows. ``otherwise``: what a note says that there is then.
    """
    graph, kind = model.graph, KINDS[provider]
    nodes = [node for node in graph if node.op_type == "GroupQueryAttention"]
    for node in nodes:
        if reason := _hindrance(node, kind, sizes):
            report.note(f"{node.name}: {reason}: {otherwise}.")
            return False
    for node in nodes:
        _take(node, kind)
    if nodes:
        graph.opset_imports[kind.domain] = 1
    return bool(nodes)


def _hindrance(node: ir.Node, kind: Kind, sizes: Sequence[int]) -> str | None:
    """Why the operator cannot compute what the node does; None if it can."""
    odd = [
        name
        for name, attribute in node.attributes.items()
        if name not in ("num_heads", "kv_num_heads", *DEFAULTS) and attribute.value not in (0, "NONE")
    ]
    if odd:
        return f"its attention has {' and '.join(odd)}, which the native operators do not know"
    if any(value is not None for value in node.inputs[INPUTS:]) or len(node.outputs) != 3:
        return "its attention has inputs or outputs that the native operators do not know"
    query, keys = node.inputs[0], node.inputs[KEYS]
    cache = (keys, node.inputs[VALUES], *node.outputs[1:])
    if any(value is None or value.dtype != kind.dtype for value in (query, *cache)):
        return f"it does not compute in float{8 * kind.dtype.itemsize:.0f}"
    if any(len(value.consumers()) != 1 for value in cache[:2]) or not all(
        value.is_graph_output() for value in cache[2:]
    ):
        return "other nodes read its cache, too"
    size = keys.shape[-1]
    if size not in sizes:
        known = ", ".join(map(str, sizes)) if len(sizes) < 4 else f"{sizes[0]}, {sizes[1]} … {sizes[-1]}"
        return f"its heads are of {size} values, those of the native operators of {known}"
    return None


def _take(node: ir.Node, kind: Kind) -> None:
    """Make the node the operator's, with every attribute written down."""
    node.domain = kind.domain
    node.resize_inputs(INPUTS)
    node.resize_outputs(kind.attention_outputs)
    for value in node.outputs[3:]:
        value.name = f"{node.name}/scratch"
    has = {name: attribute.value for name, attribute in node.attributes.items()}
    kept = {name: has[name] for name in ("num_heads", "kv_num_heads")}
    node.attributes.clear()
    for name, value in (kept | {name: has.get(name, default) for name, default in DEFAULTS.items()}).items():
        node.attributes.add(ir.AttrFloat32(name, value) if isinstance(value, float) else ir.AttrInt64(name, value))
    for value in (node.inputs[KEYS], node.inputs[VALUES], *node.outputs[1:3]):
        value.dtype = ir.DataType.FLOAT16
