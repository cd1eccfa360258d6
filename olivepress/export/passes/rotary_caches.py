"""Long-RoPE without control flow, so that a CUDA graph can hold the model.

Phi-3.5's rotary factors for short and for long texts differ. The GenAI builder chooses between two pairs of cos/sin
tables with an If, and ONNX Runtime captures no graph that has control flow ("the model has control flow nodes which
can't be supported by CUDAExecutionProvider"). Here the tables lie one after the other and a Slice takes the rows that
this run needs, by the very same condition. It also copies those rows only, where the If copies a whole table per token.
"""

import numpy as np
import onnx_ir as ir

ORIGINAL_LENGTH = "olivepress.original_length"  # in a graph's meta: rows of the short tables


class RotaryCaches(ir.passes.InPlacePass):
    """Take a Slice of the joined tables in place of the builder's If, where it wrote one.

    The If's condition is ``length > original``, the length being the width of the attention mask: rows [0, length) of
    the short tables, or rows [original, original + length) of the joined ones. The graph's ``meta`` gets the original
    length, in tokens, as ORIGINAL_LENGTH.

    With CUDA graphs on GenAI makes the attention mask as wide as the longest text that a generator may reach
    (``max_length``), from the prompt on. One that may go beyond ``original`` therefore takes the long tables for short
    texts, too (seen on an H200, GenAI 0.14.1: other tokens than with graphs off), so none may be made:
    session_options.py ends the context at ``original``.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        choice = next((node for node in graph if node.op_type == "If" and "rotemb" in node.name), None)
        if choice is None:
            return ir.passes.PassResult(model, modified=False)
        short, long = (_tables(choice.attributes[branch].as_graph()) for branch in ("else_branch", "then_branch"))
        tables = [
            _initializer(graph, f"{output.name}_short_long", np.concatenate(pair))
            for output, pair in zip(choice.outputs, zip(short, long, strict=True), strict=True)
        ]
        rows = len(short[0])
        nodes, slices = _slices(graph, choice, tables, rows)
        ir.convenience.replace_nodes_and_values(graph, choice, [choice], nodes, choice.outputs, slices)
        graph.meta[ORIGINAL_LENGTH] = rows
        return ir.passes.PassResult(model, modified=True)


def _slices(
    graph: ir.Graph, choice: ir.Node, tables: list[ir.Value], original: int
) -> tuple[list[ir.Node], list[ir.Value]]:
    """The nodes that take the place of the If, and what its outputs become."""
    is_long, base = choice.inputs[0], choice.name.rpartition("/")[0]
    length = is_long.producer().inputs[0]
    axis = _initializer(graph, f"{base}/axis", np.array([0]))
    rows = _initializer(graph, f"{base}/original", np.array([original]))

    def node(op_type: str, inputs: list[ir.Value], output: str, **attributes: int) -> ir.Node:
        return ir.node(op_type, inputs, attributes, outputs=[ir.val(f"{base}/{output}")], name=f"{base}/{op_type}")

    cast = node("Cast", [is_long], "is_long", to=ir.DataType.INT64)
    begin = node("Mul", [cast.outputs[0], rows], "begin")
    end = node("Add", [begin.outputs[0], length], "end")
    slices = [
        ir.node("Slice", [table, begin.outputs[0], end.outputs[0], axis], name=f"{base}/{output.name}/Slice")
        for table, output in zip(tables, choice.outputs, strict=True)
    ]
    return [cast, begin, end, *slices], [each.outputs[0] for each in slices]


def _tables(branch: ir.Graph) -> list[np.ndarray]:
    """What a branch made of Constant nodes gives, output by output."""
    return [ir.convenience.get_const_tensor(output).numpy() for output in branch.outputs]


def _initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.initializers.add(value)
    return value
