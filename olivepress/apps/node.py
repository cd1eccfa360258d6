"""What the JavaScript sample needs beside a release: a graph whose LoRA inputs can be fed, and where adapters lie.

onnxruntime-node feeds the inputs of a graph that have no default, and knows no adapter files. So the graph is written
without the defaults (its weights stay in the release), and release.json says at which bytes of
an adapter's file each matrix lies.
"""

import json
import string
from pathlib import Path
from typing import Any

from olivepress.core.artifact import ADAPTER_SUFFIX, MODEL
from olivepress.core.errors import PressError
from olivepress.runtime.trust import providers, read_genai_config
from olivepress.web.graph import load_graph, open_inputs
from olivepress.web.words import chat_template, end_tokens, special_tokens

DESCRIPTION = "release.json"


def jinja(template: str) -> str:
    """A text template up to where the answer begins, as a chat template (Jinja) of one message."""
    parts = []
    for text, field, *_ in string.Formatter().parse(template.partition("{response}")[0]):
        if text:
            parts.append(json.dumps(text, ensure_ascii=False))
        if field == "prompt":
            parts.append('messages[0]["content"]')
    return "".join(f"{{{{ {part} }}}}" for part in parts)


def write_node(release: Path, adapters: list[str], template: str, out: Path) -> None:
    """Write model.onnx and release.json for the release in ``release`` into the folder ``out``.

    ``template``: "chat", or the text template that the model was trained with. PressError for a target that
    JavaScript cannot run: one for CUDA, or without a portable graph.
    """
    import onnx

    config = read_genai_config(release / "model")
    if asked := providers(config):
        raise PressError(f"{release}: is for {asked[0]}; the sample runs on the CPU.")
    model = load_graph(release / "model")
    graph = open_inputs(release / "model" / MODEL, model, rank=0)
    onnx.save(model, str(out / MODEL))
    words = {
        "template": chat_template(release / "model") if template == "chat" else jinja(template),
        "special": special_tokens(release / "model"),
        "end": end_tokens(config),
    }
    places = {name: places_of(release / "adapters" / f"{name}{ADAPTER_SUFFIX}") for name in adapters}
    found = {"positions": "position_ids" in graph["fed"], "past": graph["past"], "lora": graph["lora"]}
    text = json.dumps({**words, **found, "adapters": places}, ensure_ascii=False, indent=1)
    (out / DESCRIPTION).write_text(f"{text}\n", encoding="utf-8")


def places_of(path: Path) -> dict[str, dict[str, Any]]:
    """Of each value in an .onnx_adapter file: input -> shape, first byte, and the byte after its last."""
    from onnxruntime import AdapterFormat

    content = path.read_bytes()
    adapter = AdapterFormat.read_adapter(str(path))  # the parameters are views of its memory
    parameters = adapter.get_parameters()
    found, last = {}, 0
    for name in sorted(parameters):
        values = parameters[name].numpy()
        wanted = values.tobytes()
        # wherever these bytes are, they are the matrix; the values follow each other, mostly
        start = content.find(wanted, last)
        start = content.find(wanted) if start < 0 else start
        if start < 0:
            raise PressError(f"{path}: its values do not lie in it one by one. Convert the adapter again.")
        last = start + len(wanted)
        found[name] = {"shape": list(values.shape), "start": start, "end": last}
    return found
