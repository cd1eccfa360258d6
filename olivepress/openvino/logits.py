"""Logits of the exported graph with an adapter put into it: openvino_genai says only how likely the tokens were."""

from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.errors import PressError
from olivepress.openvino.adapter import PREFIX
from olivepress.openvino.graph import MODEL, linear_layers
from olivepress.openvino.runtime import settings_of

if TYPE_CHECKING:
    import numpy as np
    import openvino


class OpenVinoLogits:
    """The graph of ``folder`` without an adapter and with each of ``adapters`` (name -> file), on ``device``."""

    def __init__(self, folder: Path, adapters: dict[str, Path], *, device: str, hint: str) -> None:
        import openvino

        core, file = openvino.Core(), folder / MODEL
        self._requests = {}
        for name, path in (*adapters.items(), (None, None)):
            graph = core.read_model(file)
            if path:
                _put_adapter(graph, path)
            self._requests[name] = core.compile_model(graph, device, settings_of(hint)).create_infer_request()
        self.vocabulary: int = graph.output("logits").get_partial_shape()[2].get_length()

    def batch(self, rows: "list[list[int]]", adapter: str | None = None) -> "list[np.ndarray]":
        """Logits [len(row), vocabulary], float32, of each row of token ids from an empty cache."""
        return [self._of(row, self._requests[adapter]) for row in rows]

    @staticmethod
    def _of(ids: list[int], request: "openvino.InferRequest") -> "np.ndarray":
        import numpy as np

        request.reset_state()
        tokens = np.array([ids], np.int64)
        inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "beam_idx": np.zeros(1, np.int32)}
        if "position_ids" in {name for value in request.model_inputs for name in value.names}:
            inputs["position_ids"] = np.arange(len(ids), dtype=np.int64)[None]
        return request.infer(inputs)["logits"][0].copy()


def _put_adapter(graph: "openvino.Model", path: Path) -> None:
    """Add B(A x) to every layer that the adapter has, in place; PressError for one that the graph lacks."""
    from openvino import opset13 as ops
    from safetensors.numpy import load_file

    layers, tensors = linear_layers(graph), load_file(path)
    for name in (name for name in tensors if name.endswith(".lora_A.weight")):
        module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        if module not in layers:
            raise PressError(f"{path}: {module} is no layer of the graph. Convert the adapter for this model.")
        layer = layers[module]
        readers = list(layer.output(0).get_target_inputs())
        x = layer.input_value(0)
        for matrix in (tensors[name], tensors[name.replace("lora_A", "lora_B")]):
            x = ops.matmul(x, ops.constant(matrix), False, True).output(0)
        total = ops.add(layer, x)
        for reader in readers:
            reader.replace_source_output(total.output(0))
    graph.validate_nodes_and_infer_types()
