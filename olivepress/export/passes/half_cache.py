"""The key-value cache of a CPU graph in float16: the project's attention in the place of ONNX Runtime's.

A token's step reads the whole cache, which in float32 soon has more bytes than the weights. ONNX Runtime's
GroupQueryAttention keeps it in the type that it computes in; the operator of that name in ``olivepress.cpu`` computes
in float32 and keeps float16 (operators/native/attention.c). ONNX Runtime GenAI asks the graph which type its cache has.
"""

import onnx_ir as ir

from olivepress.core import report
from olivepress.export.passes.native_operators import KINDS

INPUTS = 9  # of the operator: ONNX Runtime's has more, for what it does not compute
KEYS, VALUES = 3, 4  # of them
LARGEST_HEAD, STEP = 256, 16
# What the operator reads of a node, with ONNX Runtime's defaults; of other attributes only what is 0 is understood.
DEFAULTS: dict[str, int | float] = {"scale": 0.0, "local_window_size": -1, "do_rotary": 0}


class HalfCache(ir.passes.InPlacePass):
    """Turn every GroupQueryAttention into the project's own, and the cache that it reads and gives into float16.

    All or none, with a note why: a graph has one type of cache.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        nodes = [node for node in graph if node.op_type == "GroupQueryAttention"]
        for node in nodes:
            if reason := _hindrance(node):
                report.note(f"{node.name}: {reason}: the key-value cache stays in float32.")
                return ir.passes.PassResult(model, modified=False)
        domain = KINDS["CPUExecutionProvider"].domain
        for node in nodes:
            _take(node, domain)
        if nodes:
            graph.opset_imports[domain] = 1
        return ir.passes.PassResult(model, modified=bool(nodes))


def _hindrance(node: ir.Node) -> str | None:
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
    if any(value is None or value.dtype != ir.DataType.FLOAT for value in (query, *cache)):
        return "it does not compute in float32"
    if any(len(value.consumers()) != 1 for value in cache[:2]) or not all(
        value.is_graph_output() for value in cache[2:]
    ):
        return "other nodes read its cache, too"
    size = keys.shape[-1]
    if not isinstance(size, int) or size % STEP or not STEP <= size <= LARGEST_HEAD:
        return f"its heads are of {size} values, those of the native operators of 16, 32 … 256"
    return None


def _take(node: ir.Node, domain: str) -> None:
    """Make the node the operator's, with every attribute written down."""
    node.domain = domain
    node.resize_inputs(INPUTS)
    has = {name: attribute.value for name, attribute in node.attributes.items()}
    kept = {name: has[name] for name in ("num_heads", "kv_num_heads")}
    node.attributes.clear()
    for name, value in (kept | {name: has.get(name, default) for name, default in DEFAULTS.items()}).items():
        node.attributes.add(ir.AttrFloat32(name, value) if isinstance(value, float) else ir.AttrInt64(name, value))
    for value in (node.inputs[KEYS], node.inputs[VALUES], *node.outputs[1:]):
        value.dtype = ir.DataType.FLOAT16
