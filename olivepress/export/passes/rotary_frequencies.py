"""Rotary tables computed when the model is loaded: a few frequencies in the place of megabytes.

The builder stores cos and sin of every position: 2 MB for SmolLM2, 52 MB for Phi-3.5's 131,072 positions. They are
cos(position · frequency), and ONNX Runtime computes what hangs on constants alone while it loads a model, once.

The frequencies are read from the tables: each farther row says them more exactly, and of the neighbouring float32
numbers that is taken whose products, rounded as PyTorch rounds them, give the table. Tables that it does not give to
TOLERANCE, and those in float16, whose numbers are not exact enough, stay as they are.
"""

from itertools import pairwise

import numpy as np
import onnx_ir as ir

from olivepress.export.passes.rotary_caches import ORIGINAL_LENGTH

COS, SIN = "cos_cache", "sin_cache"
TOLERANCE = 1e-6  # of the greatest number in a table; float32's own rounding of a cosine is a tenth of it
STRIDE, SAMPLE = 16, 61  # rows from one estimate to the next, and between those that neighbours are compared on
NEIGHBOURS = range(-3, 4)  # units in the last place


class RotaryFrequencies(ir.passes.InPlacePass):
    """Take nodes that compute the tables in the place of every pair of initializers COS… and SIN….

    Runs after RotaryCaches, which may have put two pairs, each with frequencies of its own, one after the other.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, modified = model.graph, False
        for name in [name for name in graph.initializers if name.startswith(COS)]:
            pair = [graph.initializers[name], graph.initializers.get(name.replace(COS, SIN))]
            if any(value is None or value.dtype != ir.DataType.FLOAT for value in pair):
                continue
            tables = [value.const_value.numpy() for value in pair]
            original = graph.meta.get(ORIGINAL_LENGTH)
            bounds = [0, *([original] if original else []), len(tables[0])]
            found = [_read(*(table[begin:end] for table in tables)) for begin, end in pairwise(bounds)]
            if all(part is not None for part in found):
                _compute(graph, pair, found, [end - begin for begin, end in pairwise(bounds)])
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _read(cos: np.ndarray, sin: np.ndarray) -> tuple[np.ndarray, np.float32] | None:
    """(frequencies, factor) in float32, so that ``cos`` [rows, n] is factor · cos(row · frequency), ``sin`` likewise.

    None if there are none.
    """
    rows, factor = len(cos), cos[0, 0]
    if rows < STRIDE or factor <= 0:
        return None
    frequencies, row = np.zeros(cos.shape[1]), 1
    while row < rows:
        measured = np.arctan2(sin[row], cos[row]).astype(np.float64)
        frequencies += ((measured - row * frequencies + np.pi) % (2 * np.pi) - np.pi) / row
        row = min(row * STRIDE, rows - 1) if row < rows - 1 else rows
    nearest = frequencies.astype(np.float32)
    candidates = [nearest + offset * np.spacing(nearest) for offset in NEIGHBOURS]
    sampled = np.unique(np.r_[0:rows:SAMPLE, rows - 1])
    errors = [_errors(cos[sampled], sin[sampled], sampled, each, factor) for each in candidates]
    best = np.choose(np.argmin(errors, axis=0), candidates)
    if _errors(cos, sin, np.arange(rows), best, factor).max() > TOLERANCE * factor:
        return None
    return best, factor


def _errors(
    cos: np.ndarray, sin: np.ndarray, rows: np.ndarray, frequencies: np.ndarray, factor: np.float32
) -> np.ndarray:
    """The greatest error of each column, if these were the frequencies."""
    angles = rows.astype(np.float32)[:, None] * frequencies
    return np.maximum(*(np.abs(f(angles) * factor - table).max(axis=0) for f, table in ((np.cos, cos), (np.sin, sin))))


def _compute(
    graph: ir.Graph, pair: list[ir.Value], parts: list[tuple[np.ndarray, np.float32]], rows: list[int]
) -> None:
    """Put the nodes at the beginning of the graph, and take the tables out of it."""
    nodes: list[ir.Node] = []

    def constant(name: str, array: np.ndarray) -> ir.Value:
        value = ir.val(f"{pair[0].name}/{name}", const_value=ir.tensor(array, name=f"{pair[0].name}/{name}"))
        graph.initializers.add(value)
        return value

    def node(op_type: str, inputs: list[ir.Value], name: str, **attributes: int) -> ir.Value:
        nodes.append(ir.node(op_type, inputs, attributes, outputs=[ir.val(name)], name=f"{name}/{op_type}"))
        return nodes[-1].outputs[0]

    first, step = (constant(name, np.array(number, np.float32)) for name, number in (("first", 0), ("step", 1)))
    column = constant("column", np.array([-1, 1]))
    angles = []
    for number, ((frequencies, _), count) in enumerate(zip(parts, rows, strict=True)):
        base = f"{pair[0].name}/{number}"
        limit = constant(f"{number}/rows", np.array(count, np.float32))
        positions = node("Reshape", [node("Range", [first, limit, step], f"{base}/range"), column], f"{base}/positions")
        scale = constant(f"{number}/frequencies", frequencies[None])
        angles.append(node("Mul", [positions, scale], f"{base}/angles"))
    for value, op_type in zip(pair, ("Cos", "Sin"), strict=True):
        halves = []
        for number, (angle, (_, factor)) in enumerate(zip(angles, parts, strict=True)):
            halves.append(node(op_type, [angle], f"{value.name}/{number}/unscaled"))
            if factor != 1:
                amount = constant(f"{number}/{op_type}/factor", np.array(factor))
                halves[-1] = node("Mul", [halves[-1], amount], f"{value.name}/{number}")
        table = halves[0] if len(halves) == 1 else node("Concat", halves, f"{value.name}/both", axis=0)
        table.type, table.shape = value.type, value.shape
        value.replace_all_uses_with(table)
        del graph.initializers[value.name]
    graph.insert_before(graph[0], nodes)
