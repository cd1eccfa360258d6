"""What a `dvc repro` that was ended leaves behind, put right by the process that had started it.

DVC writes dvc.lock in its place, for a tenth of a second after each stage: ended meanwhile, it leaves a file that is
cut off, which no DVC reads. And it deletes a stage's outputs before it starts the stage, which can bring them back only
once it runs. Its note of what it reads and writes may be cut off, too (core/dvc_rwlock.py).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from olivepress.core import dvc_rwlock
from olivepress.core.outputs import atomic_output, remove
from olivepress.core.restore import brought_back

LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Before:
    """dvc.lock as it was before a run (None: not there), and the outputs of it that were there; in this folder."""

    lock: bytes | None
    outs: frozenset[str]

    @classmethod
    def now(cls) -> "Before":
        """A dvc.lock that is broken already is not judged here: who reads it next says so."""
        data = LOCK.read_bytes() if LOCK.is_file() else None
        paths = [path for _, path in _outs(_stages(data) or {})]
        return cls(data, frozenset(path for path in paths if os.path.lexists(path)))

    def put_right(self) -> list[str]:
        """Put a whole dvc.lock in the place of one that is cut off, and bring back outputs that were here; what there
        is to say about it, a line each."""
        lines = []
        if self.lock is not None and _stages(self.lock) is not None and _cut_off(self.lock):
            with atomic_output(LOCK) as scratch:
                scratch.write_bytes(self.lock)
            lines.append("dvc.lock was cut off as DVC was ended: it is as it was before this run.")
        elif self.lock is None and LOCK.is_file() and _stages(LOCK.read_bytes()) is None:
            remove(LOCK)
            lines.append("dvc.lock was cut off as DVC was ended: it is gone, as it was before this run.")
        stages = _stages(LOCK.read_bytes()) if LOCK.is_file() else None
        gone = [name for name, path in _outs(stages or {}) if path in self.outs and not os.path.lexists(path)]
        said = (brought_back(name) for name in dict.fromkeys(gone))
        return [*lines, *filter(None, [dvc_rwlock.mended(), *said])]


def _stages(lock: bytes | None) -> dict[str, Any] | None:
    """Name -> entry of the stages; None for what is no dvc.lock."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        return COMPILED_LOCKFILE_SCHEMA(yaml.safe_load((lock or b"").decode())).get("stages", {})
    except (Invalid, yaml.YAMLError, UnicodeDecodeError):
        return None


def _outs(stages: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(stage, path) of each output."""
    for name, stage in stages.items():
        for out in stage.get("outs", []):
            yield name, out["path"]


def _cut_off(before: bytes) -> bool:
    """Whether dvc.lock is none any more, or lacks a stage that it had and that dvc.yaml still has."""
    stages = _stages(LOCK.read_bytes()) if LOCK.is_file() else None
    if stages is None:
        return True
    missing = (_stages(before) or {}).keys() - stages.keys()
    if not missing:
        return False
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            return any(stage.addressing in missing for stage in repo.index.stages)
    except DvcException:  # dvc.yaml is broken, which DVC says itself
        return False
