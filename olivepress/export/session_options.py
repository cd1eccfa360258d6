"""How ONNX Runtime is to run an exported model: what the builder leaves out of genai_config.json."""

import json
from collections.abc import Sequence
from pathlib import Path

from olivepress.core.artifact import LIBRARY, OPERATORS


def set_session_options(folder: Path, provider: str, *, cuda_graph: bool, original_length: int | None = None) -> None:
    """Write the options for ``provider`` into ``folder``'s genai_config.json.

    Where the folder has the LoRA operators' library, GenAI is told to load it; not where it has a portable graph, too,
    since that is the one that this file names: olivepress/runtime/graphs.py chooses the other where it runs.

    CPU: the number of threads is left to ONNX Runtime, one per physical core of the machine that loads the model. The
    key has to be there and be 0: without it GenAI takes half of the logical processors, at most 16, which on a machine
    without hyper-threading is half of its cores.

    CUDA: with ``cuda_graph`` the decoding step is captured once per generator and replayed. That is safe with adapters,
    since GenAI gives every generator a graph id of its own (model.cpp, State::State): a graph holds the pointers of the
    adapter that its generator has active. An adapter has to be set active before the prompt: one set after the capture
    is not seen (tests/gpu shows it). With graphs on a long-RoPE model takes its rotary tables by the longest text that
    is allowed and not by the text (passes/rotary_caches.py), so its context ends at ``original_length``, in tokens.

    TensorRT for RTX: the builder asks for CUDA graphs there, too. Nobody has shown that such a graph sees another
    adapter than the one that it was captured with: they are off.
    """
    path = folder / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    options = config["model"]["decoder"]["session_options"]
    if provider == "CPUExecutionProvider":
        options["intra_op_num_threads"] = 0
    if (folder / LIBRARY).is_file() and not (folder / OPERATORS).is_file():
        options["custom_ops_library"] = LIBRARY
    for entry in options["provider_options"]:
        if "NvTensorRtRtx" in entry:
            entry["NvTensorRtRtx"]["enable_cuda_graph"] = "0"
        if "cuda" in entry:
            entry["cuda"]["enable_cuda_graph"] = "1" if cuda_graph else "0"
            if cuda_graph and original_length:
                config["model"]["context_length"] = min(config["model"]["context_length"], original_length)
                config["search"]["max_length"] = min(config["search"]["max_length"], original_length)
    path.write_text(json.dumps(config, indent=4), encoding="utf-8")


def set_end_tokens(folder: Path, ids: Sequence[int]) -> None:
    """Have GenAI end an answer at any of the tokens ``ids``; the builder writes what one of two files names."""
    path = folder / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    named = config["model"]["eos_token_id"]
    if set(named if isinstance(named, list) else [named]) != set(ids):
        config["model"]["eos_token_id"] = list(ids)
        if config["model"]["pad_token_id"] is None:
            config["model"]["pad_token_id"] = ids[0]
        path.write_text(json.dumps(config, indent=4), encoding="utf-8")
