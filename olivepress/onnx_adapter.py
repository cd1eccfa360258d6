"""A PEFT adapter as the .onnx_adapter file that ONNX Runtime loads over a graph with open LoRA inputs."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.errors import PressError
from olivepress.lora_inputs import MODEL_PARTS, Projection, projections, qkv_sizes

if TYPE_CHECKING:
    import numpy as np

KEY = re.compile(r".*\.layers\.(?P<layer>\d+)\.(?:\w+\.)?(?P<name>\w+)\.lora_(?P<side>[AB])\.weight")


def read_peft(folder: Path) -> "dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]":
    """(layer, module) -> (A [rank, in], B [out, rank]), float32, the scaling folded into B.

    Raises PressError for anything that is not plain LoRA on linear layers.
    """
    import numpy as np
    from safetensors.numpy import load_file

    config_path, weights_path = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise PressError(f"{path}: not there. Expected a PEFT adapter folder with safetensors weights.")
    config = json.loads(config_path.read_text(encoding="utf-8"))
    _check_plain(config_path, config)
    sides: dict[tuple[int, str], dict[str, np.ndarray]] = {}
    modules: dict[tuple[int, str], str] = {}  # full names, for PEFT's patterns
    for key, tensor in load_file(weights_path).items():
        match = KEY.fullmatch(key)
        if not match:
            raise PressError(f"{weights_path}: {key}: not a LoRA matrix of a decoder layer's projection.")
        modules[int(match["layer"]), match["name"]] = key.removeprefix("base_model.model.").partition(".lora_")[0]
        sides.setdefault((int(match["layer"]), match["name"]), {})[match["side"]] = tensor.astype(np.float32)
    adapter = {}
    for (layer, name), pair in sides.items():
        if set(pair) != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
            raise PressError(f"{weights_path}: layer {layer} {name}: lora_A and lora_B do not belong together.")
        adapter[layer, name] = (pair["A"], pair["B"] * _scaling(config, modules[layer, name], pair["A"].shape[0]))
    return adapter


def _check_plain(path: Path, config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise PressError(f"{path}: peft_type is {config.get('peft_type')!r}; only LORA can be converted.")
    for key in ("use_dora", "modules_to_save", "lora_bias", "trainable_token_indices"):
        if config.get(key):
            raise PressError(f"{path}: {key} is set; the ONNX graph has inputs for plain LoRA matrices only.")
    if config.get("init_lora_weights", True) not in (True, False, "gaussian", "orthogonal", "eva"):
        raise PressError(
            f"{path}: init_lora_weights is {config['init_lora_weights']!r}, which changes the base's weights: the "
            "adapter is right over that changed base only. Train it with init_lora_weights true."
        )
    if config.get("bias", "none") != "none":
        raise PressError(f"{path}: bias is {config['bias']!r}; the ONNX graph has no input for biases.")


def _scaling(config: dict[str, Any], module: str, rank: int) -> float:
    """alpha / rank, or alpha / sqrt(rank) for rsLoRA (arXiv:2312.03732), with PEFT's per-module alphas."""
    alpha = config["lora_alpha"]
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):  # as PEFT's get_pattern_key: the first match counts
            alpha = value
            break
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


def convert(adapter_folder: Path, model_folder: Path, out: Path) -> int:
    """Write ``out`` (.onnx_adapter) for the graph in ``model_folder``; returns the number of projections filled.

    q/k/v and gate/up are packed or split to match the graph: packing stacks A and makes B block-diagonal (a module
    without LoRA is a block of zeros), splitting repeats A and cuts B. Raises PressError if a module or a shape does
    not fit the graph's inputs.
    """
    import numpy as np
    import onnxruntime

    graph = projections(model_folder / "model.onnx")
    adapter = read_peft(adapter_folder)
    sizes = qkv_sizes(model_folder)
    parameters: dict[str, onnxruntime.OrtValue] = {}
    used: set[tuple[int, str]] = set()
    for (layer, _), projection in sorted(graph.items()):
        matrices = _fit(layer, projection, adapter, sizes, used)
        if matrices is None:
            continue
        a, b = matrices
        _check_shape(adapter_folder, projection, a, b)
        for key, value in ((projection.lora_a, a), (projection.lora_b, b.T)):
            array = np.ascontiguousarray(value.astype(projection.dtype))
            if not np.isfinite(array).all():
                raise PressError(f"{adapter_folder}: {key} has values that {projection.dtype} cannot hold.")
            parameters[key] = onnxruntime.OrtValue.ortvalue_from_numpy(array)
    unused = sorted(set(adapter) - used)
    if unused or not parameters:
        layer, name = unused[0] if unused else (0, "anything")
        known = ", ".join(sorted({name for _, name in graph}))
        raise PressError(
            f"{adapter_folder}: layer {layer} {name}: the graph in {model_folder} has no such projection "
            f"({len({layer for layer, _ in graph})} layers with {known}). Was it trained on another base, or is the "
            "target exported with lora_inputs: attention?"
        )
    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    file.set_parameters(parameters)
    file.export_adapter(str(out))
    return len(parameters) // 2


def _fit(
    layer: int,
    projection: Projection,
    adapter: "dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]",
    qkv: tuple[int, int, int],
    used: set[tuple[int, str]],
) -> "tuple[np.ndarray, np.ndarray] | None":
    """A [rank, K] and B [N, rank] for one projection of the graph, or None if the adapter leaves it alone."""
    import numpy as np

    def take(name: str) -> "tuple[np.ndarray, np.ndarray]":
        used.add((layer, name))
        return adapter[layer, name]

    name = projection.name
    if (layer, name) in adapter:
        return take(name)
    for packed, parts in MODEL_PARTS.items():
        if name in parts and (layer, packed) in adapter:  # one matrix in the adapter, several in the graph
            a, b = take(packed)
            cuts = np.cumsum(qkv if packed == "qkv_proj" else [len(b) // len(parts)] * len(parts))[:-1]
            return a, np.split(b, cuts)[parts.index(name)]
        if name == packed and any((layer, part) in adapter for part in parts):  # the other way round
            widths = qkv if packed == "qkv_proj" else [projection.outputs // len(parts)] * len(parts)
            present = {part: take(part) for part in parts if (layer, part) in adapter}
            a = np.concatenate([pair[0] for pair in present.values()])
            b = np.zeros((sum(widths), len(a)), np.float32)
            row = column = 0
            for part, width in zip(parts, widths, strict=True):
                if part in present:
                    block = present[part][1]
                    if len(block) != width:
                        return a, block  # the caller names the mismatch
                    b[row : row + width, column : column + block.shape[1]] = block
                    column += block.shape[1]
                row += width
            return a, b
    return None


def _check_shape(folder: Path, projection: Projection, a: "np.ndarray", b: "np.ndarray") -> None:
    found, expected = (a.shape[1], b.shape[0]), (projection.inputs, projection.outputs)
    if found != expected:
        raise PressError(
            f"{folder}: layer {projection.layer} {projection.name}: the adapter maps {found[0]} inputs to {found[1]} "
            f"outputs, the graph {expected[0]} to {expected[1]}. Was it trained on another base?"
        )
