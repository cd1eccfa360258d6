"""What is left of adapters and targets that the params no longer have: found by dvc.lock, and removed.

DVC itself keeps the entries of stages that dvc.yaml no longer has in dvc.lock, and their outputs in the workspace,
where a folder that is a dep of other stages would still hold them.
"""

import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError
from olivepress.core.outputs import remove
from olivepress.core.report import log_path

if TYPE_CHECKING:
    from dvc.repo import Repo

# What stages write lies below these. Nothing else is removed, whatever a dvc.lock says.
COST, FACTS = PurePosixPath("results/cost"), PurePosixPath("results/machine/facts")
WRITTEN = ("models", "results", "data/prepared", "logs")


@dataclass(frozen=True)
class Pruned:
    """Names of the stages that went from dvc.lock, and the paths that went from the workspace."""

    stages: tuple[str, ...]
    paths: tuple[str, ...]


def prune(root: Path) -> Pruned:
    """Remove every stage that dvc.yaml no longer has from dvc.lock, and its outputs, metrics, plots and cost.

    A path that a stage of today writes stays. Raises PressError if DVC cannot read the project at ``root``, or if
    another DVC is at work there.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.utils.serialize import modify_yaml

    try:
        with Repo(str(root)) as repo, repo.lock:
            dead = dead_stages(repo)
            if not dead:
                return Pruned((), ())
            living = {PurePosixPath(out.def_path) for out in repo.index.outs}
            paths = sorted({path for name, stage in dead.items() for path in written(name, stage)})
            gone = [path for path in paths if _removable(path, living) and _remove(root, path)]
            with modify_yaml(str(root / "dvc.lock")) as lock:
                for name in dead:
                    del lock["stages"][name]
            return Pruned(tuple(dead), tuple(map(str, gone)))
    except DvcException as error:
        raise PressError(f"dvc: {error}") from error


def dead_stages(repo: "Repo") -> dict[str, Any]:
    """Name -> entry in dvc.lock of every stage that dvc.yaml, by today's params, does not have."""
    import yaml

    lock = Path(repo.root_dir) / "dvc.lock"
    if not lock.is_file():
        return {}
    living = {stage.addressing for stage in repo.index.stages}
    entries = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
    return {name: entry for name, entry in entries.items() if name not in living}


def written(name: str, stage: dict[str, Any]) -> Iterator[PurePosixPath]:
    """The paths that a stage wrote, by its entry in dvc.lock: its outputs, and what is none: cost, live losses, log."""
    for out in stage.get("outs", []):
        yield PurePosixPath(out["path"])
    for option, value in pairwise(shlex.split(stage["cmd"])):
        if option == "--cost":
            yield PurePosixPath(value)
            with suppress(ValueError):
                yield FACTS / PurePosixPath(value).relative_to(COST)
        elif option in ("--live-metrics", "--live-plots"):
            yield PurePosixPath(value)
    yield PurePosixPath(log_path(name))


def _removable(path: PurePosixPath, living: set[PurePosixPath]) -> bool:
    """Whether ``path`` is below a folder of outputs, and neither one of a living stage nor around or in one."""
    inside = ".." not in path.parts and any(path != top and path.is_relative_to(top) for top in WRITTEN)
    return inside and not any(path.is_relative_to(out) or out.is_relative_to(path) for out in living)


def _remove(root: Path, path: PurePosixPath) -> bool:
    """Delete ``path`` and the folders that it leaves empty; whether there was something."""
    place = root / path
    if not place.exists() and not place.is_symlink():
        return False
    remove(place)
    for folder in path.parents:
        if str(folder) in (*WRITTEN, ".") or any((root / folder).iterdir()):
            break
        (root / folder).rmdir()
    return True
