"""How ONNX Runtime is to run an exported model: the options in genai_config.json that the builder leaves out."""

import json
from pathlib import Path

from olivepress.lora_operator import LIBRARY


def set_session_options(folder: Path, provider: str, *, cuda_graph: bool, original_length: int | None = None) -> None:
    """Write the options for ``provider`` into ``folder``'s genai_config.json.

    Where the folder has the LoRA operators' library, GenAI is told to load it.

    CPU: the number of threads is left to ONNX Runtime, one per physical core of the machine that loads the model. The
    key has to be there and be 0: without it GenAI takes half of the logical processors, at most 16, which on a machine
    without hyper-threading is half of its cores.

    CUDA: with ``cuda_graph`` the decoding step is captured once per generator and replayed. That is safe with adapters,
    since GenAI gives every generator a graph id of its own (model.cpp, State::State): a graph holds the pointers of the
    adapter that its generator has active. An adapter has to be set active before the prompt: one set after the capture
    is not seen (tests/gpu shows it). A captured graph also keeps the rotary rows that it was captured with, so the
    context of a long-RoPE model, whose ``original_length`` in tokens is given, ends there while graphs are on.
    """
    path = folder / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    options = config["model"]["decoder"]["session_options"]
    if provider == "CPUExecutionProvider":
        options["intra_op_num_threads"] = 0
    if (folder / LIBRARY).is_file():
        options["custom_ops_library"] = LIBRARY
    for entry in options["provider_options"]:
        if "cuda" in entry:
            entry["cuda"]["enable_cuda_graph"] = "1" if cuda_graph else "0"
            if cuda_graph and original_length:
                config["model"]["context_length"] = min(config["model"]["context_length"], original_length)
                config["search"]["max_length"] = min(config["search"]["max_length"], original_length)
    path.write_text(json.dumps(config, indent=4), encoding="utf-8")
