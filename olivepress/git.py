"""Git, called as a command: what a release needs of it."""

import subprocess
from pathlib import Path

from olivepress.errors import PressError


def git(root: Path, *arguments: str) -> str:
    """Standard output of a git command in ``root``; PressError with git's own words if it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise PressError(f"git {' '.join(arguments[:2])}: {said or f'exit status {done.returncode}'}")
    return done.stdout


def succeeds(root: Path, *arguments: str) -> bool:
    """Whether a git command's exit status is 0."""
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False).returncode == 0


def content(root: Path, revision: str, path: str) -> bytes:
    """The bytes of a file as of ``revision``; PressError if it is not there."""
    done = subprocess.run(["git", "show", f"{revision}:{path}"], cwd=root, capture_output=True, check=False)
    if done.returncode:
        raise PressError(f"{path}: not in git at {revision}.")
    return done.stdout
