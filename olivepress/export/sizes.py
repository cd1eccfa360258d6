"""What an exported model's bytes are: the embedding, the head, the projections, their scales, and what is left."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.outputs import sizes

if TYPE_CHECKING:
    import onnx_ir as ir

TOKENIZER = ("tokenizer", "chat_template", "special_tokens", "added_tokens", "vocab", "merges", "spiece")
PARTS = ("embedding", "head", "projections", "scales")
WEIGHTS, SCALES = 1, (2, 3)  # where a product has them, zero points among the scales
PRODUCTS = ("MatMulNBits", "MatMul", "DequantizeLinear")
HEAD = "/lm_head/"
INT4, SHIFT = "/int4", "/Shift"  # of the names of nodes that dequantized.py makes


def bytes_by_part(folder: Path, graph: "ir.Graph") -> dict[str, int]:
    """Bytes of each part of a model folder, whose ``graph`` was read or written; their sum is the folder's.

    ``head`` is the output head's weights, and the embedding's too where it lies at the same place: ``embedding`` is 0
    then. ``scales`` are those of quantized weights, with their zero points; ``rest`` is norms, rotary tables, the graph
    itself and the files beside it.
    """
    from olivepress.export.graph import place

    places: dict[Hashable, tuple[str, int]] = {}
    for value in graph.initializers.values():
        part = min((_part(use.node, use.idx) for use in _uses(value)), key=_order, default="rest")
        key, size = place(value.const_value), value.const_value.nbytes
        places[key] = (min(part, places.get(key, (part,))[0], key=_order), size)
    found = dict.fromkeys((*PARTS, "tokenizer", "rest"), 0)
    for part, size in places.values():
        found[part] += size
    files = sizes(folder)
    found["tokenizer"] = sum(size for name, size in files.items() if name.startswith(TOKENIZER))
    found["rest"] = sum(files.values()) - sum(size for part, size in found.items() if part != "rest")
    return found


def _order(part: str) -> int:
    """Less for what a tensor is counted as first: a table that is the head's and the embedding's is the head."""
    return ("head", "embedding", "projections", "scales", "rest").index(part)


def _part(node: "ir.Node", place: int) -> str:
    """The part that an initializer is of which ``node`` reads at ``place``."""
    from olivepress.export.passes.decoder_layers import EACH, FIRST, LAYER, PARTS

    if node.op_type == LAYER:  # its products' inputs in order: weights, scales, zero points, A, B
        own = (place - FIRST) % EACH if FIRST <= place < FIRST + EACH * len(PARTS) else EACH
        return "projections" if own == 0 else "scales" if own < 3 else "rest"
    name = (node.name or "").removeprefix(INT4)
    if node.op_type in ("Gather", "GatherBlockQuantized") and "embed" in name:
        return "embedding" if place == 0 else "scales"
    if (node.op_type == "MatMulNBits" and place in SCALES) or (node.op_type == "DequantizeLinear" and place == 1):
        return "scales"
    if node.op_type == "MatMul" and name.endswith(SHIFT):
        return "scales"
    if place == (0 if node.op_type == "DequantizeLinear" else WEIGHTS) and node.op_type in PRODUCTS:
        return "head" if name.startswith(HEAD) else "projections"
    return "rest"


def _uses(value: "ir.Value") -> "Iterator[ir.Usage]":
    """The uses of a value, and in the place of a node that only casts or turns it, those of the node's result."""
    for use in value.uses():
        if use.node.op_type in ("Cast", "Transpose"):
            yield from _uses(use.node.outputs[0])
        else:
            yield use
