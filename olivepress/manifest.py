"""The release manifest: what is in a release, what it was made from, and how good it is."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from olivepress.errors import PressError
from olivepress.outputs import sha256, sizes

SEMVER = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def build_manifest(
    folder: Path,
    quality_results: Path,
    params: Path,
    *,
    target: str,
    adapters: Iterable[str],
    name: str,
    version: str,
    licence: str,
) -> dict[str, Any]:
    """The manifest of the release in ``folder`` (model/, adapters/) as a dict, the same for the same inputs.

    Raises PressError for a malformed name or version, or a quality file that is missing.
    """
    import yaml

    if not NAME.fullmatch(name):
        raise PressError(f"register.name: {name!r}: expected letters, digits, '.', '_' and '-', at most 255.")
    if not SEMVER.fullmatch(version):
        raise PressError(f"register.version: {version!r}: expected MAJOR.MINOR.PATCH, such as 1.2.0.")

    def quality(path: str) -> dict[str, Any]:
        file = quality_results / f"{path}.json"
        if not file.is_file():
            raise PressError(f"{file}: not there. Run `dvc repro` for the stage that writes it.")
        return json.loads(file.read_text(encoding="utf-8"))

    names = list(adapters)
    base = quality("fetch")
    quantize = quality("quantize")
    calibration = quantize.pop("calibration")
    prepared = {adapter: quality(f"prepare/{adapter}") for adapter in names}
    inputs = {f"base/{file}": entry["sha256"] for file, entry in base.pop("files").items()}
    inputs[calibration["data"]] = calibration["sha256"]
    for entry in prepared.values():
        inputs[entry.pop("data")] = entry.pop("sha256")
    parameters = yaml.safe_load(params.read_text(encoding="utf-8"))
    # where a release is published or computed says nothing about what it is
    parameters.pop("azure", None)
    parameters.get("register", {}).pop("backend", None)
    # model/ and adapters/ are the release; the manifest and the card beside them describe it
    files = {
        path: {"bytes": size, "sha256": sha256(folder / path)}
        for path, size in sizes(folder).items()
        if path.startswith(("model/", "adapters/")) and not path.endswith(".gitignore")
    }
    return {
        "name": name,
        "version": version,
        "target": target,
        "adapters": names,
        "licence": licence,
        "base": base,
        "files": files,
        "inputs_sha256": inputs,
        "quality": {
            "quantize": quantize,
            "prepare": prepared,
            "finetune": {adapter: quality(f"finetune/{adapter}") for adapter in names},
            "evaluate": quality(f"evaluate/{target}"),
        },
        "params": parameters,
    }
