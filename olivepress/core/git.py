"""Git, called as a command."""

from pathlib import Path

from olivepress.core.errors import PressError
from olivepress.core.process import run

LFS = b"version https://git-lfs"  # how Git LFS begins what it leaves in the place of a file until that is fetched


def git(root: Path, *arguments: str | Path) -> str:
    """Standard output of a git command in ``root``; PressError with git's own words if it fails."""
    return run(["git", *arguments], cwd=root).stdout.decode()


def succeeds(root: Path, *arguments: str) -> bool:
    """Whether a git command's exit status is 0."""
    return run(["git", *arguments], cwd=root, check=False).returncode == 0


def content(root: Path, revision: str, path: str) -> bytes:
    """The bytes of a file as of ``revision``; PressError if it is not there. ``./`` in front: relative to ``root``."""
    done = run(["git", "show", f"{revision}:{path}"], cwd=root, check=False)
    if done.returncode:
        raise PressError(f"{path}: not in git at {revision}.")
    return done.stdout


def refuse_pointer(path: Path) -> None:
    """PressError for a file of Git LFS that was not fetched."""
    with path.open("rb") as file:
        if file.read(len(LFS)) == LFS:
            raise PressError(f"{path}: a pointer of Git LFS, not the file that it stands for: run git lfs pull there.")
