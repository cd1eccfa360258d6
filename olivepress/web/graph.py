"""The exported graph as ONNX Runtime's JavaScript takes it on WebAssembly and on WebGPU, and what its inputs are.

JavaScript feeds the inputs of a graph that have no default, and refuses others by name: the LoRA inputs lose theirs
(rank zero), and the page feeds them, with an adapter's values or with zeros of rank one. WebGPU has no product by a
matrix that is stored turned, and without ``shader-f16`` no float16: the inputs are laid out, and of the type, that the
products take. All activations are float32: WebGPU would round them to 8 bits where the graph allows it
(``accuracy_level`` 4), and give other tokens than WebAssembly, which never does.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.artifact import MODEL
from olivepress.core.errors import PressError
from olivepress.web.floats import with_floats

if TYPE_CHECKING:
    import onnx

LARGEST = 2**31 - 1  # bytes of one file that WebAssembly's 32-bit memory and a browser's buffers hold
FED = ("input_ids", "attention_mask", "position_ids")
FLOATS = "model.floats.onnx"  # the graph for WebAssembly, where it is another
FLOAT32_ACTIVATIONS = 1  # accuracy_level of MatMulNBits
PAST, PRESENT = "past_key_values.", "present."


def write_graph(model_folder: Path, out: Path) -> tuple[dict[str, Any], set[str]]:
    """Write the portable graph in ``model_folder`` to the folder ``out``, its weights as they are.

    Returns what page.json says of it: ``graphs`` (device -> file), and what `open_inputs` says, shapes alone, since all
    is float32; and the LoRA inputs whose values an adapter's file has turned. PressError for a graph that a browser
    cannot run.
    """
    import onnx

    path, model = model_folder / MODEL, load_graph(model_folder)
    names = {value.name for value in model.graph.input}
    turned = _lay_out(path, model, {value.name for value in model.graph.initializer} & names)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = FLOAT32_ACTIVATIONS
    inputs = open_inputs(path, model, rank=1)
    shapes = {kind: _shapes(path, inputs[kind]) for kind in ("lora", "past")}
    onnx.save(model, str(out / MODEL))
    graphs = {"webgpu": MODEL, "wasm": MODEL}
    if floats := with_floats(model):
        graphs["wasm"] = FLOATS
        onnx.save(floats, str(out / FLOATS))
    return {"graphs": graphs, **inputs, **shapes}, turned


def load_graph(model_folder: Path) -> "onnx.ModelProto":
    """The portable graph without its weights. PressError for one with operators that JavaScript's runtimes have not."""
    import onnx

    path = model_folder / MODEL
    model = onnx.load(str(path), load_external_data=False)
    foreign = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx", "com.microsoft"})
    if foreign:
        raise PressError(f"{path}: has operators of {foreign[0]}, which browsers have not. Export a portable graph.")
    return model


def open_inputs(path: Path, model: "onnx.ModelProto", *, rank: int) -> dict[str, Any]:
    """Take the LoRA inputs' defaults out of ``model``, so that JavaScript can feed them.

    Returns ``weights`` (files beside the graph), ``lora`` (input -> type and shape, with that ``rank``) and ``past``
    (the same, with no length yet: 0), ``fed`` (further inputs). PressError for an input that is none of these.
    """
    defaults = {value.name for value in model.graph.initializer}
    lora: dict[str, Any] = {}
    past: dict[str, Any] = {}
    fed: list[str] = []
    for value in model.graph.input:
        if value.name in defaults:
            lora[value.name] = _described(path, value, unknown=rank)
        elif value.name.startswith(PAST):
            past[value.name] = _described(path, value, unknown=0)
        elif value.name in FED:
            fed.append(value.name)
        else:
            raise PressError(f"{path}: has the input {value.name}, which the page knows nothing of.")
    weights = sorted(_weights(model))
    kept = [value for value in model.graph.initializer if value.name not in lora]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
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


def _lay_out(path: Path, model: "onnx.ModelProto", lora: set[str]) -> set[str]:
    """Have the products read the inputs ``lora`` as they are, plain products all of them.

    What stood between is gone: a Flatten, which was for other runtimes' ranks, and a Cast, whose type the input takes
    over. Returns the inputs that were stored turned, [rank, K], and are [K, rank] now.
    """
    import onnx

    inputs = {value.name: value.type.tensor_type for value in model.graph.input}
    between = {node.output[0]: node for node in model.graph.node if node.op_type in ("Flatten", "Cast")}
    gone: set[str] = set()
    turned: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in ("MatMul", "FusedMatMul"):
            continue
        name, cast = node.input[1], None
        steps = []
        while name in between:
            steps.append(between[name])
            if between[name].op_type == "Cast":
                cast = onnx.helper.get_node_attr_value(between[name], "to")
            name = between[name].input[0]
        if name not in lora:
            continue
        gone |= {step.output[0] for step in steps}
        node.input[1] = name
        if cast is not None:
            inputs[name].elem_type = cast
        if node.op_type == "FusedMatMul":
            found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
            if found != {"transB": 1}:
                raise PressError(f"{path}: {node.name} has {found}, where the export writes transB alone.")
            node.op_type, node.domain = "MatMul", ""
            del node.attribute[:]
            sizes = inputs[name].shape.dim
            sizes.append(sizes.pop(0))
            turned.add(name)
    kept = [node for node in model.graph.node if node.output[0] not in gone]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return turned


def _described(path: Path, value: "onnx.ValueInfoProto", *, unknown: int) -> dict[str, Any]:
    """Type and shape of an input: batch 1, and ``unknown`` for every other length that is not fixed."""
    import onnx

    types = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16"}
    tensor = value.type.tensor_type
    if tensor.elem_type not in types:
        name = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise PressError(f"{path}: the input {value.name} is {name}; JavaScript feeds float32 and float16.")
    shape = [1 if size.dim_param == "batch_size" else size.dim_value or unknown for size in tensor.shape.dim]
    return {"type": types[tensor.elem_type], "shape": shape}


def _shapes(path: Path, inputs: dict[str, dict[str, Any]]) -> dict[str, list[int]]:
    for name, found in inputs.items():
        if found["type"] != "float32":
            raise PressError(f"{path}: the input {name} is {found['type']}; the page feeds float32.")
    return {name: found["shape"] for name, found in inputs.items()}


def _weights(model: "onnx.ModelProto") -> set[str]:
    """Names of the files beside the graph that its weights are in."""
    return {
        entry.value for value in model.graph.initializer for entry in value.external_data if entry.key == "location"
    }
