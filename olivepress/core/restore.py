"""The outputs of an earlier run, which DVC deletes before a stage starts, come back if the stage fails.

DVC keeps them only with ``persist``, and then its run cache, which lets one machine take another's results, leaves the
stage out.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core import report
from olivepress.core.errors import PressError
from olivepress.core.git import content
from olivepress.core.lacks import raise_handles
from olivepress.core.outputs import atomic_output

if TYPE_CHECKING:
    from dvc.repo import Repo


def restore_earlier() -> None:
    """Put back what dvc.lock has of this stage and is gone: from DVC's cache, else (results) from the last commit.

    Does nothing outside DVC. A process of its own does it: what ends this one may have come in the middle of an import
    that the work needs, or have taken its memory or file handles.
    """
    stage = os.environ.get("DVC_STAGE")
    if stage and (said := brought_back(stage)):
        report.note(said)


def brought_back(stage: str) -> str:
    """The same for ``stage``, in this folder; what there is to say of it, nothing if all is there."""
    command = [sys.executable, "-m", "olivepress.core.restore"]
    environment = {**os.environ, "DVC_STAGE": stage}
    raise_handles()  # their lack may be why the stage fails
    try:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        return done.stdout.decode().strip()
    except (OSError, MemoryError, subprocess.CalledProcessError):
        return "Earlier outputs are not brought back: try dvc checkout."


def _restore(name: str) -> str:
    """The work, for the stage ``name``; what is said of it. What only git has comes back without DVC, too: a stage may
    run by another Python."""
    problem = ""
    try:
        _with_dvc(name)
    except Exception as error:  # DVC is not installed, or cannot read itself: the stage's own error matters more
        problem = f" ({error})"
    missing = [path for path, md5 in _gone(name) if not _from_git(path, md5)]
    return f"Not brought back: {', '.join(missing)}{problem}: try dvc checkout." if missing else ""


def _gone(name: str) -> list[tuple[str, str]]:
    """(path, MD5) of the outputs of a stage that dvc.lock has and this folder lacks."""
    import yaml

    lock = Path("dvc.lock")
    if not lock.is_file():
        return []
    stages: dict[str, Any] = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    outs = stages.get(name, {}).get("outs", [])
    return [(out["path"], out["md5"]) for out in outs if "md5" in out and not os.path.lexists(out["path"])]


def _with_dvc(name: str) -> None:
    """Check the missing outputs out of DVC's cache, where it has them; let go of a dead DVC's locks."""
    from dvc.repo import Repo

    with Repo() as repo:
        for out in repo.stage.load_one(name=name).outs:
            if not out.exists and out.hash_info and out.cache.exists(out.hash_info.value):
                out.use_cache = True  # the run cache has results, too
                out.checkout(force=True)
        _release_dead_locks(repo)


def _release_dead_locks(repo: "Repo") -> None:
    """Take the entries of processes that are no more out of DVC's lock of paths: SIGTERM gives DVC no time to do it."""
    from dvc.lock import make_lock

    path = Path(repo.tmp_dir, "rwlock")
    if not path.is_file():
        return
    guard = make_lock(f"{path}.lock", tmp_dir=repo.tmp_dir, hardlink_lock=repo.config["core"]["hardlink_lock"])
    with guard:
        locks = json.loads(path.read_text(encoding="utf-8"))
        readers = {
            place: [info for info in infos if _lives(info["pid"])] for place, infos in locks.get("read", {}).items()
        }
        writers = {place: info for place, info in locks.get("write", {}).items() if _lives(info["pid"])}
        alive = {"read": {place: infos for place, infos in readers.items() if infos}, "write": writers}
        path.write_text(json.dumps({mode: held for mode, held in alive.items() if held}), encoding="utf-8")


def _lives(pid: int) -> bool:
    """Whether there is such a process; one that has ended and nobody has waited for (a zombie) is none."""
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _from_git(path: str, md5: str) -> bool:
    """Write the bytes that the last commit has at ``path``, if they are those of dvc.lock."""
    try:
        found = content(Path.cwd(), "HEAD", f"./{path}")
    except (PressError, OSError):
        return False
    if hashlib.md5(found, usedforsecurity=False).hexdigest() != md5:
        return False
    try:
        with atomic_output(Path(path)) as scratch:
            scratch.write_bytes(found)
    except OSError:  # the disk is full, or read-only: what the stage itself says matters more
        return False
    return True


if __name__ == "__main__":
    print(_restore(os.environ["DVC_STAGE"]))
