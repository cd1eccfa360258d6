"""The exported graph as ONNX Runtime's JavaScript takes it, and what its inputs are.

JavaScript feeds the inputs of a graph that have no default, and refuses others by name: the LoRA inputs lose theirs
(rank zero), and the page feeds them, with an adapter's values or with rank zero.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.artifact import MODEL
from olivepress.core.errors import PressError

if TYPE_CHECKING:
    import onnx

LARGEST = 2**31 - 1  # bytes of one file that WebAssembly's 32-bit memory and a browser's buffers hold
FED = ("input_ids", "attention_mask", "position_ids")
PAST, PRESENT = "past_key_values.", "present."


def write_graph(model_folder: Path, out: Path) -> dict[str, Any]:
    """Write the portable graph in ``model_folder`` to the folder ``out``, its weights as they are.

    Returns what page.json says of it: ``weights`` (files beside the graph), ``lora`` and ``past`` (input -> type, and
    shape, where 0 stands for what has no length yet), ``fed`` (further inputs). PressError for a graph that a browser
    cannot run.
    """
    import onnx

    path = model_folder / MODEL
    model = onnx.load(str(path), load_external_data=False)
    foreign = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx", "com.microsoft"})
    if foreign:
        raise PressError(f"{path}: has operators of {foreign[0]}, which browsers have not. Export a portable graph.")
    defaults = {value.name for value in model.graph.initializer}
    lora: dict[str, Any] = {}
    past: dict[str, Any] = {}
    fed: list[str] = []
    for value in model.graph.input:
        if value.name in defaults:
            lora[value.name] = _described(path, value)
        elif value.name.startswith(PAST):
            past[value.name] = _described(path, value)
        elif value.name in FED:
            fed.append(value.name)
        else:
            raise PressError(f"{path}: has the input {value.name}, which the page knows nothing of.")
    weights = sorted(_weights(model))
    kept = [value for value in model.graph.initializer if value.name not in lora]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.save(model, str(out / MODEL))
    return {"weights": weights, "lora": lora, "past": past, "fed": fed}


def check_sizes(model_folder: Path, weights: list[str]) -> None:
    """PressError if the graph in ``model_folder``, or a file of its ``weights``, is more than a browser holds."""
    for name in (MODEL, *weights):
        size = (model_folder / name).stat().st_size
        if size > LARGEST:
            raise PressError(
                f"{model_folder / name}: has {size:,} bytes; a browser's WebAssembly takes at most {LARGEST:,} in a "
                "file. Choose a smaller model, or quantize to fewer bits."
            )


def _described(path: Path, value: "onnx.ValueInfoProto") -> dict[str, Any]:
    """Type and shape of an input: batch 1, and 0 for every other length that is not fixed."""
    import onnx

    types = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16"}
    tensor = value.type.tensor_type
    if tensor.elem_type not in types:
        name = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise PressError(f"{path}: the input {value.name} is {name}; the page feeds float32 and float16.")
    shape = [1 if size.dim_param == "batch_size" else size.dim_value for size in tensor.shape.dim]
    return {"type": types[tensor.elem_type], "shape": shape}


def _weights(model: "onnx.ModelProto") -> set[str]:
    """Names of the files beside the graph that its weights are in."""
    return {
        entry.value for value in model.graph.initializer for entry in value.external_data if entry.key == "location"
    }
