"""The embedding as small as its target says: a quantized table, shared with the output head where the two are tied.

The GenAI builder writes it in the type that the graph computes in: float32 on a CPU, more than all int4 weights of a
small model together. A token reads one row of it, so decoding is as fast in any form.

ONNX Runtime 1.26 has GatherBlockQuantized on its CPU and its CUDA provider, for float32 and float16. int4 is stored as
ONNX's uint4: packed into uint8, the CUDA kernel of that release takes the wrong rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from olivepress.core.errors import PressError
from olivepress.export.model_builder import BITS, table_group
from olivepress.export.passes.mixed_head import HEAD, MIXED_LOOKUP, Rare
from olivepress.export.passes.sixteen_bits import cast, exact, store_as

TABLE = "model.embed_tokens"
ROWS = 4096  # of the table that are worked on at a time
# A head has a table's numbers if nearly all lie within half a step of its grid; the search for scales cuts the others
# off, and a mixed head's rare rows were rounded to 8 bits before. Seen within 0.6 steps: 99.6% of a tied head's with 4
# bits, 99.9% with 8; where a head has moved away from the table, 95% with 8 bits after 0.3%, 98% with 4 after 3%.
STEPS, SHARE = 0.6, 0.99


@dataclass(frozen=True)
class Table:
    """A quantized table [rows, width]: values of initializers, as MatMulNBits or GatherBlockQuantized reads them.

    ``weights``: [rows, width], uint8 or uint4. ``scales`` and ``zeros``: [rows, groups], zeros of the weights' type.
    """

    weights: ir.Value
    scales: ir.Value
    zeros: ir.Value
    group: int


class Embedding(ir.passes.InPlacePass):
    """Store the embedding as ``kind`` says: float, int8, int4, or mixed, which needs to know the ``rare`` tokens.

    Quantized, it is the output head's own table where that rounds the same numbers to as many bits or more, and costs
    no byte then: it lies at the same place of the data file. Else it gets one of its own, with scales by k-quant's
    search. A float table is stored in 16 bits where these hold each of its numbers; a float head that is tied reads
    the same one. Mixed, it is two tables, as in mixed_head.py. Raises PressError for a graph that has no embedding to
    quantize.
    """

    def __init__(self, kind: str, rare: Rare | None = None) -> None:
        super().__init__()
        self._kind, self._rare = kind, rare

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        lookup = next(filter(_is_lookup, graph), None)
        if lookup is None:
            if self._kind == "float" or any(node.op_type == "GatherBlockQuantized" for node in graph):
                return ir.passes.PassResult(model, modified=False)
            raise PressError(f"found no embedding that could be {self._kind}. Set embedding: float for this target.")
        table = lookup.inputs[0]
        if self._kind == "float":
            modified = _share_float(graph, table) | _store_narrow(graph, lookup)
            return ir.passes.PassResult(model, modified=modified)
        if self._rare:
            _replace_by_two(graph, lookup, _mixed(graph, table, self._rare), self._rare)
        else:
            bits = BITS[self._kind]
            head = _tied_head(graph, table, bits)
            _replace(graph, lookup, _view_of(graph, head) if head is not None else _own(graph, table, bits))
        graph.initializers.pop(table.name)
        return ir.passes.PassResult(model, modified=True)


def _is_lookup(node: ir.Node) -> bool:
    """Whether a node takes the rows of input_ids from a float table [rows, width]."""
    if node.op_type != "Gather" or node.inputs[1].name != "input_ids":
        return False
    table = node.inputs[0]
    return table.is_initializer() and len(table.uses()) == 1 and len(table.shape) == 2


def _share_float(graph: ir.Graph, table: ir.Value) -> bool:
    """Let a float head that is the table, transposed, read the table."""
    for node in graph:
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        if weight is None or not weight.is_initializer() or list(weight.shape) != list(table.shape)[::-1]:
            continue
        ours, theirs = table.const_value.numpy(), weight.const_value.numpy()
        if all(np.array_equal(ours[rows], theirs[:, rows].T) for rows in _blocks(len(ours))):
            transposed = ir.val(f"{node.name}/Transpose/output_0", type=weight.type, shape=weight.shape)
            turn = ir.node("Transpose", [table], {"perm": [1, 0]}, outputs=[transposed], name=f"{node.name}/Transpose")
            graph.insert_before(node, turn)
            node.replace_input_with(1, transposed)
            graph.initializers.pop(weight.name)
            return True
    return False


def _store_narrow(graph: ir.Graph, lookup: ir.Node) -> bool:
    """A float32 table in 16 bits where that is exact; what a token reads of it is cast back."""
    table, rows = lookup.inputs[0], lookup.outputs[0]
    dtype = exact(table.const_value) if table.dtype == ir.DataType.FLOAT else None
    if dtype is None:
        return False
    wide = ir.val(f"{table.name}/float32", type=ir.TensorType(ir.DataType.FLOAT), shape=table.shape)
    readers = [node for node in table.consumers() if node is not lookup]
    store_as(table, dtype)
    for node in readers:  # a tied head: ONNX Runtime computes it when it loads the model
        node.replace_input_with(0, wide)
    if readers:
        graph.insert_before(readers[0], cast(table, wide))
    result = ir.val(rows.name, type=rows.type, shape=rows.shape)
    rows.replace_all_uses_with(result, replace_graph_outputs=True)
    rows.name, rows.type = f"{lookup.name}/{dtype.name.lower()}", ir.TensorType(dtype)
    graph.insert_after(lookup, cast(rows, result))
    return True


def _tied_head(graph: ir.Graph, table: ir.Value, bits: int) -> ir.Node | None:
    """The MatMulNBits over the same numbers as ``table``, rounded to ``bits`` or more, if there is one."""
    rows, width = table.shape
    for node in graph:
        if node.op_type != "MatMulNBits" or len(node.inputs) > 4:
            continue
        has = {name: attribute.value for name, attribute in node.attributes.items()}
        if (has["N"], has["K"]) != (rows, width) or has["bits"] < bits:
            continue
        groups, rest = divmod(width, has["block_size"])
        if rest or groups * has["bits"] % 8:  # MatMulNBits pads the zero points of each row to whole bytes
            continue
        if _rounds(node, table.const_value.numpy()):
            return node
    return None


def _rounds(node: ir.Node, table: np.ndarray) -> bool:
    """Whether a MatMulNBits has the numbers of ``table``, rounded."""
    some = np.linspace(0, len(table) - 1, min(len(table), ROWS)).astype(int)
    off = np.abs(rounded_rows(node, some) - np.asarray(table[some], np.float32))
    steps = np.abs(_scales_of(node, some))
    return bool((off <= STEPS * np.repeat(steps, off.shape[1] // steps.shape[1], axis=1)).mean() >= SHARE)


def _mixed(graph: ir.Graph, table: ir.Value, rare: Rare) -> list[Table]:
    """The tables of frequent and of rare tokens: the head's own where it is cut so and has the same numbers."""
    array = table.const_value.numpy()
    frequent = np.concatenate([array[: rare.begin], array[rare.end :]])
    parts = {"frequent": (frequent, 8), "rare": (array[rare.begin : rare.end], 4)}
    heads = {node.name.rpartition("/")[2]: node for node in graph if node.name.startswith(HEAD)}
    if heads.keys() == parts.keys() and all(_rounds(heads[name], rows) for name, (rows, _) in parts.items()):
        return [_view_of(graph, heads[name], f"{TABLE}.{name}") for name in parts]
    return [_own(graph, table, bits, rows, f"{TABLE}.{name}") for name, (rows, bits) in parts.items()]


def rounded_rows(node: ir.Node, rows: np.ndarray) -> np.ndarray:
    """Rows of a MatMulNBits' weights as it computes with them, float32 [rows, K]."""
    bits, count = node.attributes["bits"].as_int(), node.attributes["N"].as_int()
    _, weights, _, *zeros = (value and value.const_value for value in node.inputs)
    values = _unpacked(weights.numpy().reshape(count, -1)[rows], bits)
    scale = _scales_of(node, rows)
    middle = _unpacked(zeros[0].numpy().reshape(count, -1)[rows], bits) if zeros else np.full_like(scale, 1 << bits - 1)
    grouped = values.reshape(*scale.shape, -1) - middle[..., None]
    return (grouped * scale[..., None]).reshape(len(rows), -1)


def _scales_of(node: ir.Node, rows: np.ndarray) -> np.ndarray:
    """The scales of rows of a MatMulNBits, float32 [rows, groups]."""
    scales = node.inputs[2].const_value.numpy()
    return scales.reshape(node.attributes["N"].as_int(), -1)[rows].astype(np.float32)


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned integers of 8 bits, or pairs of 4 with the lower one first, as float32."""
    if bits == 8:
        return packed.astype(np.float32)
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1).astype(np.float32)


def _view_of(graph: ir.Graph, head: ir.Node, name: str = TABLE) -> Table:
    """The head's table, at its place in the data file, in the shapes and types that GatherBlockQuantized reads."""
    bits, group = (head.attributes[name].as_int() for name in ("bits", "block_size"))
    rows, width = (head.attributes[name].as_int() for name in ("N", "K"))
    dtype = _dtype(bits)
    scales = head.inputs[2]
    # one value for both: MatMulNBits takes its scales in one dimension or in two
    scales.shape = ir.Shape([rows, width // group])
    scales.const_value = view(scales.const_value, scales.name, scales.dtype, [rows, width // group])
    parts = {"qweight": (head.inputs[1], width)}
    if len(head.inputs) == 4:
        parts["qzeros"] = (head.inputs[3], width // group)
    found = {}
    for part, (value, columns) in parts.items():
        tensor = view(value.const_value, f"{name}.{part}", dtype, [rows, columns])
        found[part] = ir.val(tensor.name, const_value=tensor)
        graph.initializers.add(found[part])
    if len(head.inputs) == 3:  # in MatMulNBits that means the middle, in GatherBlockQuantized of uint4 it means zero
        middle = np.full((rows, width // group), 1 << bits - 1, np.uint8)
        found["qzeros"] = _written(graph, f"{name}.qzeros", middle, dtype)
    return Table(found["qweight"], scales, found["qzeros"], group)


def view(tensor: ir.TensorProtocol, name: str, dtype: ir.DataType, shape: list[int]) -> ir.TensorProtocol:
    """The same bytes under another name, in another type and shape: the same place, where they are in the data file."""
    if isinstance(tensor, ir.ExternalTensor):
        return ir.ExternalTensor(
            tensor.location,
            tensor.offset,
            tensor.length,
            dtype,
            shape=ir.Shape(shape),
            name=name,
            base_dir=tensor.base_dir,
        )
    if dtype.bitwidth < 8:
        return ir.PackedTensor(tensor.numpy().reshape(-1), dtype, shape=shape, name=name)
    return ir.tensor(tensor.numpy().reshape(shape), dtype, name=name)


def _own(graph: ir.Graph, table: ir.Value, bits: int, array: np.ndarray | None = None, name: str = TABLE) -> Table:
    """The table, or the rows in ``array``, rounded to ``bits`` by the search that the builder uses for a head."""
    array = table.const_value.numpy() if array is None else array
    rows, width = array.shape
    group = table_group(bits, width)
    if width % group:
        raise PressError(f"{table.name}: {width} columns are no multiple of {group}. Set embedding: float.")
    parts = []
    for block in _blocks(rows):
        values, scales, zeros = k_quant(array[block], bits, group)
        parts.append((values.astype(np.uint8), scales.astype(table.dtype.numpy()), zeros.astype(np.uint8)))
    dtype, groups = _dtype(bits), width // group
    found = {}
    for index, (part, columns) in enumerate((("qweight", width), ("scales", groups), ("qzeros", groups))):
        whole = np.concatenate([block[index].reshape(-1, columns) for block in parts])
        found[part] = _written(graph, f"{name}.{part}", whole, table.dtype if part == "scales" else dtype)
    return Table(found["qweight"], found["scales"], found["qzeros"], group)


def k_quant(data: np.ndarray, bits: int, group: int) -> tuple[np.ndarray, ...]:
    """Values, scales, zero points of each group by ONNX Runtime's search, which divides 0 by 0 where all are equal."""
    from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu

    from olivepress.export.fast_builder import in_blocks

    with np.errstate(all="ignore"):
        return in_blocks(quant_tensor_k_quant_cpu)(data, bits, group)


def _written(graph: ir.Graph, name: str, array: np.ndarray, dtype: ir.DataType) -> ir.Value:
    """A new initializer for the data file."""
    if dtype.bitwidth == 4:
        pairs = np.pad(array.reshape(-1), (0, array.size % 2)).reshape(-1, 2)
        tensor = ir.PackedTensor(pairs[:, 0] | pairs[:, 1] << 4, dtype, shape=ir.Shape(array.shape), name=name)
    else:
        tensor = ir.tensor(array, dtype, name=name)
    value = ir.val(name, const_value=ir.LazyTensor(lambda: tensor, dtype, ir.Shape(array.shape), name=name))
    graph.initializers.add(value)
    return value


def _replace(graph: ir.Graph, lookup: ir.Node, table: Table) -> None:
    rows = lookup.outputs[0]
    node = _gather(table, lookup, lookup.inputs[1], rows)
    graph.opset_imports.setdefault("com.microsoft", 1)
    ir.convenience.replace_nodes_and_values(graph, lookup, [lookup], [node], [rows], node.outputs)


def _gather(table: Table, lookup: ir.Node, ids: ir.Value, rows: ir.Value, suffix: str = "") -> ir.Node:
    """The lookup of ``ids`` in a quantized table, which gives what ``rows`` is called and looks like."""
    return ir.node(
        "GatherBlockQuantized",
        [table.weights, ids, table.scales, table.zeros],
        {"bits": 8 if table.weights.dtype == ir.DataType.UINT8 else 4, "block_size": table.group}
        | {"gather_axis": 0, "quantize_axis": 1},
        domain="com.microsoft",
        outputs=[ir.val(f"{rows.name}{suffix}", type=rows.type, shape=rows.shape)],
        name=lookup.name.replace("Gather", "GatherBlockQuantized") + suffix,
    )


def _replace_by_two(graph: ir.Graph, lookup: ir.Node, tables: list[Table], rare: Rare) -> None:
    """Look each token up in both tables, and take the row of the one that has it; the other gives its first row."""
    ids, rows = lookup.inputs[1], lookup.outputs[0]
    nodes: list[ir.Node] = []

    def constant(name: str, value: int | list[int]) -> ir.Value:
        found = ir.val(f"{TABLE}.{name}", const_value=ir.tensor(np.array(value, np.int64), name=f"{TABLE}.{name}"))
        graph.initializers.add(found)
        return found

    def node(op_type: str, inputs: list[ir.Value], name: str) -> ir.Value:
        output = ir.val(f"{lookup.name}/{name}")
        nodes.append(ir.node(op_type, inputs, outputs=[output], name=f"{lookup.name}/{name}/{op_type}"))
        return output

    begin, end, first = constant("begin", rare.begin), constant("end", rare.end), constant("first", 0)
    before = node("Less", [ids, end], "before")
    is_rare = node("And", [node("GreaterOrEqual", [ids, begin], "after"), before], "rare")
    moved = node("Where", [before, ids, node("Sub", [ids, constant("count", rare.end - rare.begin)], "moved")], "place")
    places = [
        node("Where", [is_rare, first, moved], "frequent_ids"),
        node("Where", [is_rare, node("Sub", [ids, begin], "from_begin"), first], "rare_ids"),
    ]
    found = [
        _gather(table, lookup, place, rows, suffix)
        for table, place, suffix in zip(tables, places, ("/frequent", "/rare"), strict=True)
    ]
    nodes += found
    wide = node("Unsqueeze", [is_rare, constant("axis", [-1])], "wide")
    result = ir.val(rows.name, type=rows.type, shape=rows.shape)
    nodes.append(
        ir.node("Where", [wide, found[1].outputs[0], found[0].outputs[0]], outputs=[result], name=MIXED_LOOKUP)
    )
    graph.opset_imports.setdefault("com.microsoft", 1)
    ir.convenience.replace_nodes_and_values(graph, lookup, [lookup], nodes, [rows], [result])


def _dtype(bits: int) -> ir.DataType:
    return ir.DataType.UINT8 if bits == 8 else ir.DataType.UINT4


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(first, first + ROWS) for first in range(0, rows, ROWS))
