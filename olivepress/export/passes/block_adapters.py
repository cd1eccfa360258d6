"""B of a packed projection without its zeros, for graphs that the CPU's operators share an adapter with.

Where q, k and v are one product, and gate and up, each has an adapter of its own: A is stacked, and B block-diagonal,
with two thirds and a half of it zeros: a third of all that a Llama's adapter has. With this pass B has the rows of one
block, and its columns belong to the rows of A that are their block's:

    A [blocks·rank, K], B [rank, N]; y[c] = base[c] + sum over r of (x·Aᵀ)[block of c · rank + r] · B[r, c]

The operators read B as it is (operators/native/cpu.c). The portable graph puts the zeros back before its product: B
times a mask [blocks, 1, N], as one matrix. A model whose own checkpoint has these projections packed (phi3) has one A
for all blocks, and keeps B whole.
"""

import numpy as np
import onnx_ir as ir

from olivepress.export.passes.native_operators import KINDS
from olivepress.export.projections import Projection, part_widths, projections

DOMAIN = KINDS["CPUExecutionProvider"].domain


class BlockAdapters(ir.passes.InPlacePass):
    """Let packed projections take B without zeros; ``qkv``: the outputs of q, k and v."""

    def __init__(self, qkv: tuple[int, int, int]) -> None:
        super().__init__()
        self._qkv = qkv
        self._masks: dict[tuple[int, ...], ir.Value] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        inputs = {value.name: value for value in model.graph.inputs}
        packed = [
            (each, widths)
            for each in projections(model).values()
            if len(widths := part_widths(each.name, each.outputs, self._qkv)) > 1
            and not each.blocks
            and all(width % KINDS["CPUExecutionProvider"].multiple == 0 for width in widths)
        ]
        for projection, widths in packed:
            lora_a, lora_b = inputs[projection.lora_a], inputs[projection.lora_b]
            lora_a.shape = ir.Shape([f"{projection.layer}.{projection.name}.ranks", projection.inputs])
            (reader,) = lora_b.consumers()
            if reader.domain != DOMAIN:
                self._put_zeros_back(model.graph, projection, widths, lora_b, reader)
            elif reader.op_type == "LoraAdd":
                reader.attributes["widths"] = ir.AttrInt64s("widths", widths)
        return ir.passes.PassResult(model, modified=bool(packed))

    def _put_zeros_back(
        self, graph: ir.Graph, projection: Projection, widths: tuple[int, ...], lora_b: ir.Value, reader: ir.Node
    ) -> None:
        blocks, whole = (ir.val(f"{lora_b.name}/{name}", dtype=lora_b.dtype) for name in ("blocks", "whole"))
        mask = self._mask(graph, projection, widths)
        multiply = ir.node("Mul", [lora_b, mask], outputs=[blocks], name=f"{lora_b.name}/Mul")
        flatten = ir.node("Flatten", [blocks], {"axis": 2}, outputs=[whole], name=f"{lora_b.name}/Zeros")
        reader.replace_input_with(list(reader.inputs).index(lora_b), whole)
        graph.insert_before(reader, [multiply, flatten])

    def _mask(self, graph: ir.Graph, projection: Projection, widths: tuple[int, ...]) -> ir.Value:
        """[blocks, 1, N], one where a column is its block's; the same for all layers."""
        if widths not in self._masks:
            mask = np.repeat(np.eye(len(widths), dtype=projection.dtype), widths, axis=1)[:, None]
            name = f"model.{projection.name}.lora_blocks"
            self._masks[widths] = ir.val(name, const_value=ir.tensor(mask, name=name))
            graph.initializers.add(self._masks[widths])
        return self._masks[widths]
