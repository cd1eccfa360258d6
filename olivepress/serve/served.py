"""The model that is served: a release held to its manifest, or a run's folder; the checks are `olivepress.load`'s."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivepress.core.artifact import ADAPTER_SUFFIX, OPERATORS
from olivepress.core.errors import PressError
from olivepress.core.json_document import read_document
from olivepress.core.report import note
from olivepress.core.template import check_template, unescape
from olivepress.runtime.graphs import choose
from olivepress.runtime.release import checked_release
from olivepress.runtime.trust import options_of, providers, read_genai_config
from olivepress.serve.chooser import check_search
from olivepress.serve.decoder import Decoder
from olivepress.serve.wording import Wording

LARGEST_CONFIG = 4 * 2**20


@dataclass(frozen=True)
class Served:
    """A model by its ``name``: its words, its graph, its adapters' files, its search options, its longest text."""

    name: str
    wording: Wording
    decoder: Decoder
    adapters: dict[str, Path]
    search: dict[str, Any]
    context: int


def open_release(
    folder: Path,
    target: str | None,
    *,
    verify: str = "cached",
    graph: str | None = None,
    context: int | None = None,
    together: bool = False,
) -> Served:
    """The release in ``folder`` for ``target``; ``verify`` and ``graph`` as of `olivepress.load`.

    ``context``: tokens of prompt and answer, the model's if it is None. ``together``: as of `Decoder`.
    """
    folder, manifest = checked_release(folder, target, verify)
    files = {name: folder / "adapters" / f"{name}{ADAPTER_SUFFIX}" for name in manifest["adapters"]}
    template = unescape(manifest["params"]["text"]["template"])
    return _opened(manifest["name"], folder / "model", files, template, graph, context, together)


def open_run(
    folder: Path,
    name: str,
    template: str,
    *,
    graph: str | None = None,
    context: int | None = None,
    together: bool = False,
) -> Served:
    """The model of a finished run in ``folder`` (model/, adapters/); ``template``: text.template of its params."""
    template = unescape(template)
    check_template(template)
    files = {path.name.removesuffix(ADAPTER_SUFFIX): path for path in (folder / "adapters").glob(f"*{ADAPTER_SUFFIX}")}
    return _opened(name, folder / "model", dict(sorted(files.items())), template, graph, context, together)


def _opened(
    name: str,
    folder: Path,
    adapters: dict[str, Path],
    template: str,
    graph: str | None,
    context: int | None,
    together: bool,
) -> Served:
    config = read_genai_config(folder)
    asked = [provider for provider in providers(config) if provider.lower() not in ("cpu", "cuda")]
    if asked:
        raise PressError(
            f"{folder}: was made for {asked[0]}. olivepress serve runs those for CPUs and CUDA: choose one by --target."
        )
    check_search(config, f"{folder / 'genai_config.json'}")
    longest = _longest(folder, config["model"]["context_length"])
    if context is not None and context > longest:
        raise PressError(f"--context-length {context}: the model in {folder} takes up to {longest} tokens.")
    chosen = choose(folder, graph)
    wording = Wording(folder, config, chosen, template)
    decoder = Decoder(folder, chosen, cuda=_cuda(config), together=together)
    if (folder / OPERATORS).is_file():
        note(f"{folder}: {chosen}")
    return Served(name, wording, decoder, adapters, config.get("search", {}), context or longest)


def _cuda(config: dict[str, Any]) -> dict[str, str] | None:
    """What a GenAI configuration tells ONNX Runtime's CUDA provider; None if it asks for none.

    No graph is captured: rows come and go, and GenAI alone keeps the inputs of a captured one in place.
    """
    options = options_of(config, "cuda")
    if options is None:
        return None
    texts = {key: value for key, value in options.items() if isinstance(value, str)}  # as GenAI takes them
    return {**texts, "enable_cuda_graph": "0"}


def _longest(folder: Path, length: int) -> int:
    """The context, or the part of it in which a text's rotation is the same however long it gets.

    With long RoPE the factors change at the original length, and GenAI reads such a text again; nothing here does.
    """
    path = folder / "config.json"
    config = read_document(path, LARGEST_CONFIG) if path.is_file() else {}
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, dict) else None
    original = config.get("original_max_position_embeddings") or (rope or {}).get("original_max_position_embeddings")
    return min(length, original) if kind == "longrope" and isinstance(original, int) else length
