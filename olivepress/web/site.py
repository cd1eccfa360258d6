"""The folder as a whole: the page, what it has from npm, model and adapters, and page.json, which describes them."""

import json
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from olivepress.core.artifact import ADAPTER_SUFFIX
from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output
from olivepress.core.template import unescape
from olivepress.runtime.genai import Model
from olivepress.runtime.prompt import control_ids
from olivepress.runtime.release import load_run
from olivepress.runtime.trust import providers, read_genai_config
from olivepress.web.graph import check_sizes, write_graph
from olivepress.web.packages import write_packages
from olivepress.web.words import chat_template, end_tokens, special_tokens

PROBE = "Where is Chicago, and what's there (in 2026)?"
TOKENIZER = "tokenizer.json"
SHARED = ("icon.svg", "talk.css", "talk.js")  # with the page of `olivepress serve`
# GenAI's own, where genai_config.json says nothing. How answers begin is greedy, as everywhere here.
SEARCH = {"top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0}


def write_site(folder: Path, out: Path, *, title: str, template: str) -> int:
    """Write the page for the model in ``folder`` (model/, adapters/) to ``out``, whole or not at all.

    Returns its bytes. ``template``: "chat", or the text template that the model was trained with. PressError if a
    browser cannot run it.
    """
    config = read_genai_config(folder / "model")
    if found := providers(config):
        raise PressError(
            f"{folder}: is for {', '.join(found)}; the page takes a CPU target (--target), which browsers compute on "
            "WebGPU, too."
        )
    model = load_run(folder, template, graph="portable")
    with atomic_output(out) as scratch:
        with as_file(files("olivepress.web") / "static") as static:
            shutil.copytree(static, scratch)
        for name in SHARED:
            (scratch / name).write_bytes((files("olivepress.talk") / name).read_bytes())
        write_packages(scratch / "packages")
        for name in ("model", "adapters"):
            (scratch / name).mkdir()
        graph, turned = write_graph(folder / "model", scratch / "model")
        check_sizes(folder / "model", graph["weights"])
        for name in (*graph["weights"], TOKENIZER):
            shutil.copyfile(folder / "model" / name, scratch / "model" / name)
        adapters = {
            name: _write_adapter(
                folder / "adapters" / f"{name}{ADAPTER_SUFFIX}", scratch, f"adapters/{place}.bin", turned
            )
            for place, name in enumerate(model.adapters)
        }
        page = {"title": title, **graph, "adapters": adapters, **_text(model, config, unescape(template))}
        (scratch / "page.json").write_text(json.dumps(page, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())


def _write_adapter(path: Path, scratch: Path, name: str, turned: set[str]) -> dict[str, Any]:
    """Write an .onnx_adapter file's values as ``name``, one after the other, those of ``turned`` turned.

    Returns the file, and input -> type, shape and first byte.
    """
    from onnxruntime import AdapterFormat

    found: dict[str, Any] = {}
    start = 0
    adapter = AdapterFormat.read_adapter(str(path))  # the parameters are views of its memory
    parameters = adapter.get_parameters()
    with (scratch / name).open("wb") as file:
        for key in sorted(parameters):
            values = parameters[key].numpy()
            values = values.T if key in turned else values
            found[key] = {"type": values.dtype.name, "shape": list(values.shape), "start": start}
            start += file.write(values.tobytes())
    return {"file": name, "values": found}


def _text(model: Model, config: dict[str, Any], template: str) -> dict[str, Any]:
    """How text becomes tokens, and where answers end; ``probe``: a question with the tokens that GenAI makes of it.

    The page refuses to start where it makes others. ``search``: GenAI's settings of what the user does not say.
    """
    search = {name: config.get("search", {}).get(name, unset) for name, unset in SEARCH.items()}
    search["top_p"] = search["top_p"] or 1.0  # to GenAI 0 is none, too
    return {
        "end": end_tokens(config),
        "context": model.context_length,
        "search": search,
        "template": chat_template(model.folder) if template == "chat" else None,
        "text_template": None if template == "chat" else template.partition("{response}")[0],
        "special": special_tokens(model.folder),
        "control": sorted(control_ids(model.folder).values()),
        "probe": {"prompt": PROBE, "tokens": model.tokenizer.encode(model.render(PROBE)).tolist()},
    }
