"""What users of a release call: load the folder that `dvc artifacts get` brought. Needs no torch."""

from pathlib import Path
from typing import Any

from olivepress.core import report
from olivepress.core.artifact import ADAPTER_SUFFIX, OPERATORS
from olivepress.core.errors import PressError
from olivepress.core.template import check_template, unescape
from olivepress.runtime.genai import Model
from olivepress.runtime.integrity import MANIFEST, check_release


def load(folder: str | Path, target: str | None = None, *, graph: str | None = None, verify: str = "cached") -> Model:
    """The model of a release with every adapter in it, ready to answer.

    ``folder``: a release (manifest.json, model/, adapters/), or a folder with one for each target; ``target`` chooses
    among several. ``graph``, of a CPU target: "operators" or "portable"; without it the environment's OLIVEPRESS_GRAPH,
    or "auto", which takes the native operators where this machine has what they need, and says so. ``verify``: how its
    files are held to its manifest before anything is loaded: "cached" hashes each once and again after a change, "full"
    every time, "sizes" only what is small, "none" not at all; "none" also takes a folder without a manifest (of a run
    of your own), with the model's chat template. Raises PressError for anything else, and for a release that is not
    what its manifest says.
    """
    folder = Path(folder)
    if verify == "none" and (folder / "model").is_dir() and not (folder / MANIFEST).exists():
        return load_run(folder, "chat", graph=graph)
    folder, manifest = checked_release(folder, target, verify)
    adapters = {name: folder / "adapters" / f"{name}{ADAPTER_SUFFIX}" for name in manifest["adapters"]}
    return _loaded(folder, adapters, unescape(manifest["params"]["text"]["template"]), graph)


def load_run(folder: Path, template: str, *, graph: str | None = None) -> Model:
    """The model of a finished run in ``folder`` (model/, adapters/) with every adapter there, released or not.

    ``template``: text.template of its params. ``graph`` as of `load`. PressError if there is no such model.
    """
    template = unescape(template)
    check_template(template)
    files = sorted((folder / "adapters").glob(f"*{ADAPTER_SUFFIX}"))
    return _loaded(folder, {path.name.removesuffix(ADAPTER_SUFFIX): path for path in files}, template, graph)


def _loaded(folder: Path, adapters: dict[str, Path], template: str, graph: str | None) -> Model:
    model = Model(folder / "model", adapters, template=template, graph=graph)
    if (folder / "model" / OPERATORS).is_file():
        report.note(f"{folder}: {model.graph}")
    return model


def checked_release(folder: Path, target: str | None, verify: str) -> tuple[Path, dict[str, Any]]:
    """`find_release`'s folder and its manifest, to which its files are held as of ``verify``; PressError if it is for
    another ``target``."""
    folder = find_release(folder, target)
    manifest = check_release(folder, verify)
    if target is not None and manifest["target"] != target:
        raise PressError(f"{folder}: is for the target {manifest['target']!r}, not {target!r}.")
    return folder, manifest


def find_release(folder: Path, target: str | None) -> Path:
    """``folder`` itself if it is a release, else the one in it that is for ``target``, or the only one."""
    if (folder / MANIFEST).is_file():
        return folder
    found = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{MANIFEST}"))}
    if not found:
        instead = " A run of your own without one is loaded with verify='none'." if (folder / "model").is_dir() else ""
        raise PressError(
            f"{folder / MANIFEST}: not there. Expected a release: dvc artifacts get <repository> <name>.{instead}"
        )
    if target is None and len(found) > 1:
        raise PressError(f"{folder}: has several targets: {', '.join(found)}. Choose one: target={next(iter(found))!r}")
    if target is not None and target not in found:
        raise PressError(f"{folder}: no target {target!r} (there: {', '.join(found)}).")
    chosen = found[target or next(iter(found))]
    if not chosen.resolve().is_relative_to(folder.resolve()):
        raise PressError(f"{chosen}: is a link that leaves the folder: not loaded. Name the folder that it leads to.")
    return chosen
