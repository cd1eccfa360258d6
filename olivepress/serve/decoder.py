"""The exported graph through ONNX Runtime itself: a prompt at a time, and the next token of many answers at once.

GenAI's generator takes all of its prompts at the beginning, with one adapter for all. Its Engine (continuous batching)
stops on these models with "Expected at least one request to be ready", and takes no adapter. The graph takes rows of
any length. By the graph with native operators a row's logits are to the last bit what it has alone. By the portable one
that holds without an adapter alone: ONNX Runtime multiplies one row by an adapter otherwise than several, and the int8
activations behind it make a thousandth of that. Tests hold this, and that the tokens are GenAI's. On CUDA a row's
last bits depend on the rows beside it, whose longest decides how attention parts its sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError, first_sentence
from olivepress.runtime.graphs import Graph
from olivepress.runtime.threads import thread_limit
from olivepress.serve.cache import KeyValueCache
from olivepress.serve.memory import CudaMemory, HostMemory

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

CUDA = "CUDAExecutionProvider"
PAST, PRESENT = "past_key_values", "present"
KNOWN = ("input_ids", "attention_mask", "position_ids")


@dataclass(frozen=True, eq=False)
class Adapter:
    """One adapter, loaded: its name, its file with size and SHA-256, and the tensors that the graph takes for it.

    They are inputs: ONNX Runtime passes over a run option's adapter where inputs are bound. ``native`` is whose memory
    they are: it has to live as long.
    """

    name: str
    file: Path
    bytes: int
    sha256: str
    tensors: "dict[str, onnxruntime.OrtValue]"
    native: Any


class Decoder:
    """The graph of a model in ``folder``, checked before (`runtime.trust`). PressError if it cannot be run.

    ``cuda``: the options of ONNX Runtime's CUDA provider, None for a CPU model. ``together``: `step` computes all rows
    at once even where each would have other logits alone, as on CUDA it always does. Logits are float32. ``new_cache``
    makes what `prompt` and `step` keep the answers of one adapter in.
    """

    def __init__(
        self, folder: Path, graph: Graph, *, cuda: dict[str, str] | None = None, together: bool = False
    ) -> None:
        import numpy as np
        import onnxruntime

        self.folder, self.file = folder, folder / graph.file
        self.apart = graph.library is None and cuda is None and not together  # rows with an adapter
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = thread_limit() or 0
        try:
            if graph.library:
                options.register_custom_ops_library(str(folder / graph.library))
            wanted = [] if cuda is None else [(CUDA, cuda)]
            self._session = onnxruntime.InferenceSession(self.file, options, [*wanted, "CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own have no common class but this
            raise PressError(f"{self.file}: ONNX Runtime cannot load it: {first_sentence(error)}") from error
        if cuda is not None and CUDA not in self._session.get_providers():  # it goes on without, and says so in a log
            raise PressError(
                f"{self.file}: was made for CUDA, and ONNX Runtime has none here: pip install 'olivepress[serve-cuda]' "
                "in an environment without the CPU build, on a machine with a driver for CUDA 12 (nvidia-smi)."
            )
        self._memory = HostMemory() if cuda is None else CudaMemory()
        inputs = self._session.get_inputs()
        for value in inputs:
            if value.name not in KNOWN and not value.name.startswith(PAST):
                raise PressError(f"{self.file}: has an input {value.name!r} that no server here feeds.")
        past = [value for value in inputs if value.name.startswith(PAST)]
        if not past:
            raise PressError(f"{self.file}: has no input {PAST}…: not a decoder as auto-opt writes it.")
        self._with_positions = any(value.name == "position_ids" for value in inputs)
        self._dtype = np.dtype(np.float16 if past[0].type == "tensor(float16)" else np.float32)
        self._shapes = {value.name: (value.shape[1], value.shape[3]) for value in past}
        logits = next(value for value in self._session.get_outputs() if value.name == "logits")
        self._logits_dtype = np.dtype(np.float16 if logits.type == "tensor(float16)" else np.float32)
        self.vocabulary: int = logits.shape[-1]
        self._adaptable = {value.name for value in self._session.get_overridable_initializers()}
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = 4

    @property
    def bytes_per_token(self) -> int:
        """Of keys and values."""
        return sum(heads * size for heads, size in self._shapes.values()) * self._dtype.itemsize

    def load_adapter(self, name: str, file: Path, size: int, sha256: str) -> Adapter:
        """The adapter in ``file``, tried on one token; PressError if it is none, or not of this model."""
        import onnxruntime

        try:
            native = onnxruntime.AdapterFormat.read_adapter(str(file))
            tensors = native.get_parameters()
            if strange := sorted(tensors.keys() - self._adaptable):
                raise PressError(f"{file}: is no adapter of this model, which has no {strange[0][:200]!r}.")
            if self._memory.device != "cpu":  # or every run would send them there
                tensors = {
                    key: onnxruntime.OrtValue.ortvalue_from_numpy(value.numpy(), self._memory.device, 0)
                    for key, value in tensors.items()
                }
            adapter = Adapter(name, file, size, sha256, tensors, native)
            self.prompt(self.new_cache(), [0], 1, adapter)
        except PressError:
            raise
        except Exception as error:  # as above
            raise PressError(f"{file}: is no adapter of this model: {first_sentence(error)}") from error
        return adapter

    def new_cache(self) -> KeyValueCache:
        """One without rows."""
        return KeyValueCache(self._shapes, self._dtype, self._memory)

    def prompt(self, cache: KeyValueCache, ids: Sequence[int], room: int, adapter: Adapter | None) -> "np.ndarray":
        """Read a prompt into a new row of ``cache``, with ``room`` for so many tokens in all; logits [vocabulary]."""
        import numpy as np

        row = cache.add(max(room, len(ids)))
        try:
            tokens = np.array([ids], np.int64)
            logits = self._run(cache, row, tokens, np.ones_like(tokens), adapter)
        except BaseException:
            cache.remove(row)
            raise
        cache.lengths[row] = len(ids)
        return logits[0, -1].astype(np.float32, copy=False)

    def step(self, cache: KeyValueCache, tokens: Sequence[int], adapter: Adapter | None) -> "np.ndarray":
        """Read one more token in every row of ``cache``; logits [rows, vocabulary]."""
        import numpy as np

        lengths = np.array(cache.lengths) + 1
        read = np.array(tokens, np.int64)[:, None]
        size = 1 if adapter and self.apart else len(read)
        found = []
        for first in range(0, len(read), size):
            rows = slice(first, first + size)
            mask = (np.arange(lengths[rows].max()) < lengths[rows, None]).astype(np.int64)
            found.append(self._run(cache, first, read[rows], mask, adapter)[:, 0])
        cache.lengths = lengths.tolist()
        return np.concatenate(found).astype(np.float32, copy=False)

    def _run(
        self, cache: KeyValueCache, first: int, tokens: "np.ndarray", mask: "np.ndarray", adapter: Adapter | None
    ) -> "np.ndarray":
        """Logits [rows, tokens, vocabulary] of the rows from ``first``; keys and values go where they are read from."""
        import numpy as np

        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", tokens)
        binding.bind_cpu_input("attention_mask", mask)
        if self._with_positions:
            begin = mask.sum(1, keepdims=True) - tokens.shape[1]
            binding.bind_cpu_input("position_ids", begin + np.arange(tokens.shape[1]))
        for name, place in cache.places(first, len(tokens)):
            binding.bind_input(name, *place)
            binding.bind_output(name.replace(PAST, PRESENT), *place)
        logits = np.empty((*tokens.shape, self.vocabulary), self._logits_dtype)
        for name, tensor in adapter.tensors.items() if adapter else ():
            binding.bind_ortvalue_input(name, tensor)
        binding.bind_output("logits", "cpu", 0, self._logits_dtype.type, logits.shape, logits.ctypes.data)
        self._session.run_with_iobinding(binding, self._options)
        return logits
