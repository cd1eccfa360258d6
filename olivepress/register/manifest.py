"""The release manifest: what is in a release, what it was made from, and how good it is."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from olivepress.core.artifact import ADAPTER_SUFFIX, MODEL, OPERATORS
from olivepress.core.errors import PressError
from olivepress.core.outputs import read_json, sha256, sizes
from olivepress.core.params import REGISTERED, SEMVER, read_params
from olivepress.core.proof import EXPORTED_ONLY, never_run, proved_by_evaluation

# What a model folder may have to run: the graph that genai_config.json names, and one with native operators beside it.
GRAPHS = {"configured": f"model/{MODEL}", "operators": f"model/{OPERATORS}"}


def build_manifest(
    folder: Path,
    inputs: Path,
    quality: Path,
    params: Path,
    *,
    target: str,
    adapters: Iterable[str],
    name: str,
    version: str,
    licence: str,
) -> dict[str, Any]:
    """The manifest of the release in ``folder`` (model/, adapters/) as a dict, the same for the same inputs.

    ``inputs``: models/inputs, ``quality``: results/quality. Raises PressError for a malformed name or version, for a
    file of theirs that is missing, and for one of an adapter that the params do not have.
    """
    if not REGISTERED.fullmatch(name):
        raise PressError(f"register.name: {name!r}: expected letters, digits, '.', '_' and '-', at most 255.")
    if not SEMVER.fullmatch(version):
        raise PressError(f"register.version: {version!r}: expected MAJOR.MINOR.PATCH, such as 1.2.0.")
    names = list(adapters)
    parameters = read_params(params)
    refuse_strays(folder / "adapters", names, ADAPTER_SUFFIX)
    for part in ("smoke-infer", "evaluate"):
        refuse_strays(quality / part / target, names, ".json")
    for part in (inputs / "data", quality / "prepare", quality / "finetune"):
        refuse_strays(part, parameters["adapters"], ".json")
    # where a release is published or computed says nothing about what it is
    parameters.pop("azure", None)
    parameters.get("register", {}).pop("backend", None)
    base = read_json(inputs / "base.json")
    sources = {f"base/{file}": entry["sha256"] for file, entry in base.pop("files").items()}
    for used in ("calibration", *(f"data/{adapter}" for adapter in names)):
        entry = read_json(inputs / f"{used}.json")
        several = isinstance(entry["data"], list)
        sources |= zip(entry["data"], entry["sha256"], strict=True) if several else {entry["data"]: entry["sha256"]}

    def metrics(path: str) -> dict[str, Any]:
        return read_json(quality / f"{path}.json")

    evaluated = {adapter: metrics(f"evaluate/{target}/{adapter}") for adapter in names}
    general = metrics(f"evaluate-base/{target}")
    # model/ and adapters/ are the release; the manifest and the card beside them describe it. Hidden files are git's
    # and DVC's: .gitignore, and what a full disk made DVC leave behind (.dvcignore).
    files = {
        path: {"bytes": size, "sha256": sha256(folder / path)}
        for path, size in sizes(folder).items()
        if path.startswith(("model/", "adapters/")) and not Path(path).name.startswith(".")
    }
    return {
        "name": name,
        "version": version,
        "target": target,
        "adapters": names,
        "licence": licence,
        "base": {**base, **metrics("fetch")},
        "files": files,
        "graphs": {kind: path for kind, path in GRAPHS.items() if path in files},
        "proved": {
            f"model/{file}": level
            for file, level in proved_by_evaluation(
                metrics(f"auto-opt/{target}")["proved"], graphs_measured(general, evaluated.values())
            ).items()
        },
        **({EXPORTED_ONLY: True} if never_run(metrics(f"auto-opt/{target}")) else {}),
        "inputs_sha256": sources,
        "quality": {
            "quantize": metrics("quantize"),
            "prepare": {adapter: metrics(f"prepare/{adapter}") for adapter in names},
            "finetune": {adapter: metrics(f"finetune/{adapter}") for adapter in names},
            "evaluate": evaluated,
            "evaluate-base": general,
        },
        "params": parameters,
    }


def graphs_measured(general: dict[str, Any], evaluated: Iterable[dict[str, Any]]) -> list[str]:
    """Files of the graphs that evaluation has figures of, without and with every adapter.

    ``general``, ``evaluated``: the metrics of evaluate-base, and of evaluate with each adapter.
    """
    sets = [(general["general"], "quantized"), *((each["held_out"], "finetuned") for each in evaluated)]
    endings = {MODEL: "onnx", OPERATORS: "operators"}
    return [
        file for file, ending in endings.items() if all(f"{step}_{ending}" in found["loss"] for found, step in sets)
    ]


def refuse_strays(folder: Path, names: Iterable[str], suffix: str) -> None:
    """PressError if ``folder``, which DVC hashes as a whole, has the file of a name that is not among ``names``."""
    expected = {f"{name}{suffix}" for name in names}
    stray = sorted(path for path in folder.glob(f"*{suffix}") if path.name not in expected)
    if stray:
        raise PressError(
            f"{stray[0]}: of no adapter in params.yaml ({', '.join(names)}), and not a file that `olivepress prune` "
            f"knows of: delete it{f' and {len(stray) - 1} more like it' if len(stray) > 1 else ''}."
        )
