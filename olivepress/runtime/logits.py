"""Logits of an exported model through plain ONNX Runtime, for comparing them with PyTorch's."""

from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.providers import CPU, CUDA, WEBGPU
from olivepress.runtime import unproved, webgpu
from olivepress.runtime.graphs import CONFIGURED, choose
from olivepress.runtime.threads import thread_limit
from olivepress.runtime.trust import check_library, providers, read_genai_config

if TYPE_CHECKING:
    import numpy as np


class OnnxLogits:
    """The graph of ``folder`` with any number of adapters, on one execution provider.

    ``graph``: which one, as `graphs.choose` takes it; by default the one that genai_config.json names.
    """

    def __init__(self, folder: Path, adapters: dict[str, Path], provider: str, *, graph: str = CONFIGURED) -> None:
        import onnxruntime

        if provider in unproved.NEEDS:
            unproved.register(folder, provider)
        chosen = choose(folder, graph)
        self._piece: int | None = None
        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_limit() or 0
        if chosen.library:
            check_library(folder)
            options.register_custom_ops_library(str(folder / chosen.library))
        if provider == WEBGPU:
            self._session = webgpu.session(folder / chosen.file, options)
            self._piece = webgpu.piece()
        else:
            self._session = onnxruntime.InferenceSession(folder / chosen.file, options, providers=[provider])
        self.vocabulary: int = self._session.get_outputs()[0].shape[-1]
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
        return self.batch([ids], adapter)[0]

    def batch(self, rows: list[list[int]], adapter: str | None = None) -> "list[np.ndarray]":
        """The same for several sequences at once, the shorter ones padded behind.

        On a software adapter of WebGPU one after another, in pieces (webgpu.PIECE).
        """
        import numpy as np

        if self._piece:
            return [self._in_pieces(ids, adapter, self._piece) for ids in rows]
        tokens = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(tokens)
        for number, ids in enumerate(rows):
            tokens[number, : len(ids)] = ids
            mask[number, : len(ids)] = 1
        (logits,) = self._session.run(["logits"], self._feeds(tokens, mask, {}), self._options[adapter])
        return [each[: len(ids)].astype(np.float32, copy=False) for each, ids in zip(logits, rows, strict=True)]

    def _in_pieces(self, ids: list[int], adapter: str | None, piece: int) -> "np.ndarray":
        """Logits of one sequence, read ``piece`` tokens at a time behind the cache of those before."""
        import numpy as np

        cache = [value.name for value in self._session.get_outputs() if value.name.startswith("present")]
        past: dict[str, np.ndarray] = {}
        found = []
        for start in range(0, len(ids), piece):
            tokens = np.array([ids[start : start + piece]], np.int64)
            feeds = self._feeds(tokens, np.ones((1, start + tokens.shape[1]), np.int64), past)
            logits, *present = self._session.run(["logits", *cache], feeds, self._options[adapter])
            past = {name.replace("present", "past_key_values"): kept for name, kept in zip(cache, present, strict=True)}
            found.append(logits[0].astype(np.float32, copy=False))
        return np.concatenate(found)

    def _feeds(
        self, tokens: "np.ndarray", mask: "np.ndarray", past: "dict[str, np.ndarray]"
    ) -> "dict[str, np.ndarray]":
        """The graph's inputs for ``tokens`` [rows, tokens] behind ``past``; the mask covers both."""
        import numpy as np

        feeds: dict[str, np.ndarray] = {}
        for name, value in self._inputs.items():
            if name == "input_ids":
                feeds[name] = tokens
            elif name == "attention_mask":
                feeds[name] = mask
            elif name == "position_ids":
                places = np.arange(mask.shape[1] - tokens.shape[1], mask.shape[1])
                feeds[name] = np.broadcast_to(places, tokens.shape).copy()
            elif name.startswith("past_key_values"):
                _, heads, _, size = value.shape
                dtype = np.float16 if value.type == "tensor(float16)" else np.float32
                feeds[name] = past.get(name, np.zeros((len(tokens), heads, 0, size), dtype))
        return feeds


def provider_of(folder: Path) -> str:
    """The execution provider that the model in ``folder`` was exported for, as its genai_config.json has it."""
    wanted = {name.lower() for name in providers(read_genai_config(folder))}
    for name, provider in unproved.NAMES.items():
        if name in wanted:
            return provider
    if "webgpu" in wanted:
        return WEBGPU
    return CUDA if "cuda" in wanted else CPU
