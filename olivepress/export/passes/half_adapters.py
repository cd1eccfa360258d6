"""Adapters in float16 for a graph that computes in float32, as the native operators read them (native_operators.py).

So one adapter file serves a graph with the operators and the portable one beside it, at half of float32's bytes. ONNX
Runtime has no product of float32 with float16: what a step reads is cast first.
"""

import numpy as np
import onnx_ir as ir

from olivepress.export.projections import projections


class HalfAdapters(ir.passes.InPlacePass):
    """Make every LoRA input that ``LoraInputs`` has added a float16 one, and cast it to the type that it had."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        inputs = {value.name: value for value in model.graph.inputs}
        names = [name for each in projections(model).values() for name in (each.lora_a, each.lora_b)]
        wide = [inputs[name] for name in names if inputs[name].dtype != ir.DataType.FLOAT16]
        for value in wide:
            _narrow(model.graph, value)
        return ir.passes.PassResult(model, modified=bool(wide))


def _narrow(graph: ir.Graph, value: ir.Value) -> None:
    (reader,) = value.consumers()
    flat = ir.val(f"{value.name}/flat", dtype=ir.DataType.FLOAT16, shape=value.shape)
    wide = ir.val(f"{value.name}/wide", dtype=value.dtype, shape=value.shape)
    # Flatten changes nothing and copies nothing. ONNX Runtime 1.26 ends by a segmentation fault where it finds a Cast
    # right behind an initializer that is an input, too (FuseInitializersTransformer).
    flatten = ir.node("Flatten", [value], {"axis": 1}, outputs=[flat], name=f"{value.name}/Flatten")
    cast = ir.node("Cast", [flat], {"to": value.dtype}, outputs=[wide], name=f"{value.name}/Cast")
    reader.replace_input_with(list(reader.inputs).index(value), wide)
    graph.insert_before(reader, [flatten, cast])
    value.dtype = ir.DataType.FLOAT16
    value.const_value = ir.tensor(value.const_value.numpy().astype(np.float16), name=value.name)
