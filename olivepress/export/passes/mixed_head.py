"""An output head in two precisions: the rows of frequent tokens in int8, those of rare ones in int4.

A rounded row moves one logit, and what that does to the answer grows with the token's probability. Vocabularies are
sorted: byte-pair encoding numbers its tokens in the order in which it merged them, the most frequent first. The first
8,192 of SmolLM2's 49,152 tokens get 88% of the probability, so the rest in int4 adds a fifth of what int4 for all does
(docs/log/2026-11-27-bytes.md). Control tokens of chat templates, which often come last, count as frequent. The idea is
that of adaptive input and output layers (Grave et al. 2017, arXiv:1609.04309; Baevski and Auli 2019, arXiv:1809.10853).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from olivepress.core.errors import PressError
from olivepress.export.model_builder import table_group

FREQUENT = 8192  # tokens
HEAD = "/lm_head/MatMul"
MIXED_LOOKUP = "/model/embed_tokens/Where"  # the node that takes the row of the table that has the token


@dataclass(frozen=True)
class Rare:
    """The tokens from ``begin`` up to but not ``end``."""

    begin: int
    end: int


def rare_tokens(tokenizer: Path, rows: int, frequent: int) -> Rare:
    """Of a vocabulary of ``rows`` tokens, all after the first ``frequent`` but those added at its end.

    ``tokenizer``: a tokenizer.json. Rows at the very end that no token has count as added. PressError if none is left.
    """
    added = {token["id"] for token in json.loads(tokenizer.read_text(encoding="utf-8")).get("added_tokens") or []}
    end = max((number for number in added if number < rows), default=rows - 1) + 1
    while end - 1 in added:
        end -= 1
    if end < rows / 2:  # they come first, as in SmolLM2
        end = rows
    if end <= frequent:
        raise PressError(f"{tokenizer}: {rows} tokens, of which none is rare. Set lm_head and embedding to int8.")
    return Rare(frequent, end)


class MixedHead(ir.passes.InPlacePass):
    """Cut the int8 head into a product for the first ``frequent`` tokens and one for rare ones, rounded to int4.

    ``tokenizer`` is the model's tokenizer.json. ``rare`` says afterwards which they are.
    """

    def __init__(self, tokenizer: Path, frequent: int = FREQUENT) -> None:
        super().__init__()
        self._tokenizer, self._frequent = tokenizer, frequent
        self.rare: Rare | None = None

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        from olivepress.export.passes.embedding import rounded_rows

        graph = model.graph
        head = next(node for node in graph if node.name.startswith(HEAD))
        rows, width = (head.attributes[name].as_int() for name in ("N", "K"))
        self.rare = rare_tokens(self._tokenizer, rows, self._frequent)
        begin, end = self.rare.begin, self.rare.end
        parts = {name: _rows_of(head, place) for name, place in (("weights", 1), ("scales", 2), ("zeros", 3))}
        frequent = {name: np.concatenate([array[:begin], array[end:]]) for name, array in parts.items()}
        if width % (2 * table_group(4, width)):
            raise PressError(
                f"{head.name}: {width} columns, which int4 cannot share. Set lm_head and embedding to int8."
            )
        size = width // parts["scales"].shape[1]
        rare = _rounded(rounded_rows(head, np.arange(begin, end)))
        products = [
            _product(graph, head, "frequent", frequent, 8, size),
            _product(graph, head, "rare", rare, 4, table_group(4, width)),
        ]
        logits, axis = head.outputs[0], {"axis": -1}
        first, middle = (node.outputs[0] for node in products)
        nodes, pieces = list(products), [first, middle]
        if end < rows:
            sizes = ir.val(f"{HEAD}/sizes", const_value=ir.tensor(np.array([begin, rows - end]), name=f"{HEAD}/sizes"))
            graph.initializers.add(sizes)
            nodes.append(ir.node("Split", [first, sizes], axis, num_outputs=2, name="/lm_head/Split"))
            pieces = [nodes[-1].outputs[0], middle, nodes[-1].outputs[1]]
        whole = ir.val(logits.name, type=logits.type, shape=logits.shape)
        nodes.append(ir.node("Concat", pieces, axis, outputs=[whole], name="/lm_head/Concat"))
        for value in head.inputs[1:]:
            graph.initializers.pop(value.name)
        ir.convenience.replace_nodes_and_values(graph, head, [head], nodes, [logits], [whole])
        return ir.passes.PassResult(model, modified=True)


def _rows_of(head: ir.Node, place: int) -> np.ndarray:
    """What the head reads at ``place``, as [rows, n]."""
    return head.inputs[place].const_value.numpy().reshape(head.attributes["N"].as_int(), -1)


def _rounded(table: np.ndarray) -> dict[str, np.ndarray]:
    """A float32 table in int4, as MatMulNBits reads it, by the search that the builder uses for a head."""
    from olivepress.export.passes.embedding import k_quant

    rows, width = table.shape
    values, scales, zeros = (part.reshape(rows, -1) for part in k_quant(table, 4, table_group(4, width)))
    packed = {name: part.astype(np.uint8) for name, part in (("weights", values), ("zeros", zeros))}
    return {name: part[:, ::2] | part[:, 1::2] << 4 for name, part in packed.items()} | {"scales": scales}


def _product(
    graph: ir.Graph, head: ir.Node, name: str, arrays: dict[str, np.ndarray], bits: int, group: int
) -> ir.Node:
    """The head's MatMulNBits over these rows."""
    inputs = [head.inputs[0]]
    for part in ("weights", "scales", "zeros"):
        array = arrays[part]
        if part == "weights":
            array = array.reshape(len(array), -1, group * bits // 8)
        dtype = head.inputs[2].dtype if part == "scales" else ir.DataType.UINT8
        called = f"lm_head.{name}.{part}"
        tensor = ir.tensor(np.ascontiguousarray(array.astype(dtype.numpy())), dtype, name=called)
        lazy = ir.LazyTensor(lambda tensor=tensor: tensor, dtype, tensor.shape, name=called)
        inputs.append(ir.val(called, const_value=lazy, type=ir.TensorType(dtype), shape=tensor.shape))
        graph.initializers.add(inputs[-1])
    logits = head.outputs[0]
    rows = len(arrays["scales"])
    return ir.node(
        head.op_type,
        inputs,
        {**head.attributes, "N": rows, "bits": bits, "block_size": group},
        domain=head.domain,
        outputs=[ir.val(f"{HEAD}/{name}/output_0", type=logits.type, shape=[*logits.shape[:-1], rows])],
        name=f"{HEAD}/{name}",
    )
