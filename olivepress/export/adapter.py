"""A PEFT adapter as the .onnx_adapter file that ONNX Runtime loads over a graph with open LoRA inputs."""

from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.artifact import MODEL
from olivepress.core.errors import PressError
from olivepress.export.adapter_config import CONFIG, missing, read_adapter_config
from olivepress.export.peft_adapter import read_peft
from olivepress.export.projections import MODEL_PARTS, Projection, part_widths, qkv_sizes, read_projections

if TYPE_CHECKING:
    import numpy as np
    from onnxruntime import OrtValue

    from olivepress.export.peft_adapter import Adapter


def convert(adapter_folder: Path, model_folder: Path, out: Path) -> int:
    """Write ``out`` (.onnx_adapter) for the graph in ``model_folder``; returns the number of projections filled.

    q/k/v and gate/up are packed or split to match the graph: packing stacks A and makes B block-diagonal (a module
    without LoRA is a block of zeros), or leaves the zeros out where the graph wants it so, and splitting repeats A and
    cuts B. Raises PressError if a module or a shape does not fit the graph's inputs.
    """
    graph = read_projections(model_folder / MODEL)
    adapter = read_peft(adapter_folder)
    _refuse_both(adapter_folder, adapter)
    _refuse_part(adapter_folder, adapter, {layer for layer, _ in graph})
    qkv = qkv_sizes(model_folder)
    parameters: dict[str, OrtValue] = {}
    used: set[tuple[int, str]] = set()
    for (layer, _), projection in sorted(graph.items()):
        modules = _modules(projection, adapter)
        if modules:
            used.update((layer, module) for module in modules)
            a, b = _fit(projection, modules, adapter, qkv)
            _check_shape(adapter_folder, projection, a, b)
            parameters[projection.lora_a] = _parameter(
                adapter_folder, projection.lora_a, a.T if projection.columns else a, projection.dtype
            )
            parameters[projection.lora_b] = _parameter(adapter_folder, projection.lora_b, b.T, projection.dtype)
    unused = sorted(set(adapter) - used)
    if unused or not parameters:
        layer, name = unused[0] if unused else (0, "anything")
        known = ", ".join(sorted({name for _, name in graph}))
        raise PressError(
            f"{adapter_folder}: layer {layer} {name}: the graph in {model_folder} has no such projection "
            f"({len({layer for layer, _ in graph})} layers with {known}). Was it trained on another base, or is the "
            "target exported with lora_inputs: attention?"
        )
    _write(parameters, out)
    return len(parameters) // 2


def _refuse_both(folder: Path, adapter: "Adapter") -> None:
    """PressError for a packed projection beside one of its parts: of the two one would be passed over."""
    for layer, name in sorted(adapter):
        part = next((part for part in MODEL_PARTS.get(name, ()) if (layer, part) in adapter), None)
        if part:
            raise PressError(
                f"{folder}: layer {layer} has {name} and {part}, a part of it: no model has both. Train or fetch it "
                "again."
            )


def _refuse_part(folder: Path, adapter: "Adapter", layers: set[int]) -> None:
    """PressError for an adapter that lacks the weights of a layer: PEFT would compute that one without it."""
    if lacking := missing(read_adapter_config(folder / CONFIG), adapter, layers):
        raise PressError(
            f"{folder}: has no weights for layer {lacking[0]} {lacking[1]}, and has them for other layers; {CONFIG} "
            "leaves none out. Fetch the adapter again."
        )


def _modules(projection: Projection, adapter: "Adapter") -> list[str]:
    """Which of the adapter's modules the graph's projection computes.

    That is the one of its name, or the one that it is a part of, or its own parts; none if the adapter leaves it alone.
    """
    wholes = [packed for packed, parts in MODEL_PARTS.items() if projection.name in parts]
    for names in ([projection.name], wholes, MODEL_PARTS.get(projection.name, ())):
        present = [name for name in names if (projection.layer, name) in adapter]
        if present:
            return present
    return []


def _fit(
    projection: Projection, modules: list[str], adapter: "Adapter", qkv: tuple[int, int, int]
) -> "tuple[np.ndarray, np.ndarray]":
    """A [rank, K] and B [N, rank] for one projection of the graph, from the adapter's ``modules``.

    ``qkv``: the outputs of q, k and v.
    """
    import numpy as np

    pairs = {module: adapter[projection.layer, module] for module in modules}
    if projection.name in pairs:
        a, b = pairs[projection.name]
        return (np.tile(a, (len(MODEL_PARTS[projection.name]), 1)), b) if projection.blocks else (a, b)
    if projection.name in MODEL_PARTS:
        return _pack(projection, pairs, qkv)
    (packed,) = modules
    return _part(projection.name, packed, *pairs[packed], qkv)


def _part(
    name: str, packed: str, a: "np.ndarray", b: "np.ndarray", qkv: tuple[int, int, int]
) -> "tuple[np.ndarray, np.ndarray]":
    """The share of part ``name`` in an adapter's matrices for ``packed``: one matrix there, several in the graph."""
    import numpy as np

    widths = part_widths(packed, len(b), qkv)
    return a, np.split(b, np.cumsum(widths)[:-1])[MODEL_PARTS[packed].index(name)]


def _pack(
    projection: Projection, pairs: "dict[str, tuple[np.ndarray, np.ndarray]]", qkv: tuple[int, int, int]
) -> "tuple[np.ndarray, np.ndarray]":
    """The other way round: A stacked in the order of the parts, and B block-diagonal, or without its zeros.

    Without them every part has the same rank, by rows of zeros in A where an adapter has less or nothing.
    """
    import numpy as np

    parts = MODEL_PARTS[projection.name]
    widths = part_widths(projection.name, projection.outputs, qkv)
    for part, width in zip(parts, widths, strict=True):
        if part in pairs and (pairs[part][0].shape[1] != projection.inputs or len(pairs[part][1]) != width):
            return pairs[part]  # the caller names the mismatch
    ranks = [len(pairs[part][0]) if part in pairs else 0 for part in parts]
    if projection.blocks:
        ranks = [max(ranks)] * len(parts)
    a = np.zeros((sum(ranks), projection.inputs), np.float32)
    b = np.zeros((sum(widths), max(ranks) if projection.blocks else sum(ranks)), np.float32)
    ends = np.cumsum(widths)
    for number, part in enumerate(parts):
        if part in pairs:
            own_a, own_b = pairs[part]
            row = sum(ranks[:number])
            column = 0 if projection.blocks else row
            a[row : row + len(own_a)] = own_a
            b[ends[number] - widths[number] : ends[number], column : column + own_b.shape[1]] = own_b
    return a, b


def _check_shape(folder: Path, projection: Projection, a: "np.ndarray", b: "np.ndarray") -> None:
    actual, expected = (a.shape[1], b.shape[0]), (projection.inputs, projection.outputs)
    if actual != expected:
        raise PressError(
            f"{folder}: layer {projection.layer} {projection.name}: the adapter maps {actual[0]} inputs to {actual[1]} "
            f"outputs, the graph {expected[0]} to {expected[1]}. Was it trained on another base?"
        )


def _parameter(folder: Path, name: str, matrix: "np.ndarray", dtype: str) -> "OrtValue":
    """``matrix`` as the graph reads it; PressError for values that ``dtype`` cannot hold."""
    import numpy as np
    from onnxruntime import OrtValue

    array = np.ascontiguousarray(matrix.astype(dtype))
    if not np.isfinite(array).all():
        raise PressError(f"{folder}: {name} has values that {dtype} cannot hold.")
    return OrtValue.ortvalue_from_numpy(array)


def _write(parameters: "dict[str, OrtValue]", out: Path) -> None:
    from onnxruntime import AdapterFormat

    file = AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    file.set_parameters(parameters)
    file.export_adapter(str(out))
