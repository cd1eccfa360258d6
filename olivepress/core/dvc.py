"""DVC of this environment, called as a command."""

import sys
from pathlib import Path

from olivepress.core.process import run


def dvc(root: Path, *arguments: str | Path) -> str:
    """Standard output of a DVC command in ``root``; PressError with DVC's own words if it fails."""
    name = f"dvc {' '.join(map(str, arguments[:2]))}"
    return run([sys.executable, "-m", "dvc", *arguments], cwd=root, name=name).stdout.decode()
