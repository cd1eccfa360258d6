"""The environment that the tests run in, lent to a temporary clone."""

import sys
from pathlib import Path


def lend_environment(folder: Path) -> None:
    """Let make in ``folder`` use this environment. Only bin is a link: a rebuild there would not empty ours."""
    (folder / ".venv").mkdir()
    (folder / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (folder / ".venv/.ready").touch()
