"""Long-RoPE without control flow, so that a CUDA graph can hold the model.

Phi-3.5's rotary factors for short and for long texts differ. The GenAI builder chooses between two pairs of cos/sin
tables with an If, and ONNX Runtime captures no graph that has control flow ("the model has control flow nodes which
can't be supported by CUDAExecutionProvider"). Here the tables lie one after the other and a Slice takes the rows that
this run needs, by the very same condition. It also copies those rows only, where the If copies a whole table per token.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def replace_if(model_path: Path) -> int | None:
    """Rewrite the ONNX file in place; returns the model's original length in tokens, or None if it has no such If.

    The If's condition is ``length > original``, the length being the width of the attention mask: rows [0, length) of
    the short tables, or rows [original, original + length) of the joined ones.

    With CUDA graphs on, tokens within ``original`` were seen to be those with graphs off (H200, GenAI 0.14.1), whether
    or not the generator's ``max_length`` goes beyond it. A captured graph keeps the rows that it was captured with,
    so it must not go on beyond ``original``: session_options.py sees to that.
    """
    import onnx
    from onnx import helper

    model = onnx.load(model_path, load_external_data=False)
    graph = model.graph
    node = next((node for node in graph.node if node.op_type == "If" and "rotemb" in node.name), None)
    if node is None:
        return None
    condition = next(other for other in graph.node if node.input[0] in other.output)
    length = condition.input[0]
    branches = {attribute.name: attribute.g for attribute in node.attribute}
    rows = 0
    for output, name in enumerate(node.output):
        short, long = (_constant(branches[branch], output) for branch in ("else_branch", "then_branch"))
        rows = len(short)
        graph.initializer.append(_joined(short, long, f"{name}_short_long"))
    base = node.name.rpartition("/")[0]

    def constant(name: str, value: list[int]) -> str:
        graph.initializer.append(helper.make_tensor(f"{base}/{name}", onnx.TensorProto.INT64, [len(value)], value))
        return f"{base}/{name}"

    first, original = constant("axis", [0]), constant("original", [rows])
    nodes = [
        helper.make_node("Cast", [node.input[0]], [f"{base}/is_long"], f"{base}/Cast", to=onnx.TensorProto.INT64),
        helper.make_node("Mul", [f"{base}/is_long", original], [f"{base}/begin"], f"{base}/Mul"),
        helper.make_node("Add", [f"{base}/begin", length], [f"{base}/end"], f"{base}/Add"),
        *(
            helper.make_node(
                "Slice", [f"{name}_short_long", f"{base}/begin", f"{base}/end", first], [name], f"{base}/{name}/Slice"
            )
            for name in node.output
        ),
    ]
    position = list(graph.node).index(node)
    kept = [*graph.node[:position], *nodes, *graph.node[position + 1 :]]
    del graph.node[:]
    graph.node.extend(kept)
    onnx.save(model, model_path)
    return rows


def _constant(branch: "onnx.GraphProto", output: int) -> "object":
    """The array that a branch made of Constant nodes gives as its ``output``-th output."""
    from onnx import numpy_helper

    name = branch.output[output].name
    node = next(node for node in branch.node if name in node.output)
    return numpy_helper.to_array(next(attribute.t for attribute in node.attribute if attribute.name == "value"))


def _joined(short: "object", long: "object", name: str) -> "onnx.TensorProto":
    import numpy as np
    from onnx import numpy_helper

    return numpy_helper.from_array(np.concatenate([short, long]), name)
