"""Logits of an exported model through plain ONNX Runtime, for comparing them with PyTorch's."""

from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.lora_operator import LIBRARY
from olivepress.threads import thread_limit

if TYPE_CHECKING:
    import numpy as np


class OnnxLogits:
    """model.onnx in ``folder`` with any number of adapters, on one execution provider."""

    def __init__(self, folder: Path, adapters: dict[str, Path], provider: str) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_limit() or 0
        if (folder / LIBRARY).is_file():
            options.register_custom_ops_library(str(folder / LIBRARY))
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=[provider])
        self._inputs = {value.name: value for value in self._session.get_inputs()}
        self._options = {None: onnxruntime.RunOptions()}
        self._loaded = []  # ONNX Runtime borrows the adapters, so they must outlive the options
        for name, path in adapters.items():
            adapter = onnxruntime.LoraAdapter()
            adapter.Load(str(path))
            self._loaded.append(adapter)
            self._options[name] = onnxruntime.RunOptions()
            self._options[name].add_active_adapter(adapter)

    def __call__(self, ids: list[int], adapter: str | None = None) -> "np.ndarray":
        """Logits [len(ids), vocabulary], float32, of one sequence from an empty cache."""
        import numpy as np

        tokens = np.array([ids], np.int64)
        feeds: dict[str, np.ndarray] = {}
        for name, value in self._inputs.items():
            if name == "input_ids":
                feeds[name] = tokens
            elif name == "attention_mask":
                feeds[name] = np.ones_like(tokens)
            elif name == "position_ids":
                feeds[name] = np.arange(tokens.shape[1])[None]
            elif name.startswith("past_key_values"):
                _, heads, _, size = value.shape
                dtype = np.float16 if value.type == "tensor(float16)" else np.float32
                feeds[name] = np.zeros((1, heads, 0, size), dtype)
        return self._session.run(["logits"], feeds, self._options[adapter])[0][0].astype(np.float32)
