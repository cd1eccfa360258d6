"""A PEFT folder as the file that openvino_genai.Adapter reads.

It takes LoRA matrices by PEFT's names from safetensors, and does not read adapter_config.json: the scale (alpha, rank,
rsLoRA, patterns) is unknown to it, so that it is folded into B here. What fits no layer of the graph it passes over
without a word, so that every matrix is held to the graph first.
"""

from pathlib import Path

from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output
from olivepress.export.peft_adapter import read_peft
from olivepress.openvino.graph import MODEL, places

SUFFIX = ".safetensors"
PREFIX = "base_model.model."  # of a module's name in PEFT's files


def convert(peft: Path, model_folder: Path, out: Path) -> int:
    """Write ``out`` for the graph in ``model_folder``: float32 A [rank, in] and B [out, rank], scaled; returns the
    number of layers.

    PressError if the folder is no plain LoRA, or a layer or shape does not fit the graph.
    """
    import numpy as np
    import openvino
    from safetensors.numpy import save

    layers = places(openvino.Core().read_model(model_folder / MODEL))
    tensors: dict[str, np.ndarray] = {}
    adapter = read_peft(peft)
    for (layer, name), (a, b) in sorted(adapter.items()):
        if (layer, name) not in layers:
            known = ", ".join(sorted({name for _, name in layers}))
            raise PressError(
                f"{peft}: layer {layer} {name}: the graph in {model_folder} has no such layer (it has {known}), and "
                "OpenVINO GenAI would pass it over. Was it trained on another base?"
            )
        module, outputs, inputs = layers[layer, name]
        if (b.shape[0], a.shape[1]) != (outputs, inputs):
            raise PressError(
                f"{peft}: layer {layer} {name} is for [{b.shape[0]}, {a.shape[1]}] weights, but the graph in "
                f"{model_folder} has [{outputs}, {inputs}]. Was it trained on another base?"
            )
        tensors[f"{PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(a, np.float32)
        tensors[f"{PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(b, np.float32)
    with atomic_output(out) as scratch:
        scratch.write_bytes(save(tensors))
    return len(adapter)
