"""DVC trusts the objects of its cache: what a disk has changed in one would come out of it as the output itself."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def broken_objects(root: Path, cache: Path) -> Iterator[Path]:
    """The objects in ``cache`` that DVC would take for outputs that are gone, and that do not have their own hash.

    Those are outputs that dvc.lock has and the project at ``root`` lacks: what is read here would be read anyway.
    """
    import yaml

    lock = root / "dvc.lock"
    stages: dict[str, Any] = (yaml.safe_load(lock.read_bytes()) or {}).get("stages", {}) if lock.is_file() else {}
    for stage in stages.values():
        for out in stage.get("outs", []):
            if "md5" in out and not os.path.lexists(root / out["path"]):
                yield from _broken(cache / "files/md5", out["md5"])


def _broken(objects: Path, name: str) -> Iterator[Path]:
    path = objects / name[:2] / name[2:]
    if not path.is_file():
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if digest != name.removesuffix(".dir"):
        yield path
    elif name.endswith(".dir"):
        for entry in json.loads(path.read_bytes()):
            yield from _broken(objects, entry["md5"])
