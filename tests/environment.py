"""The environment that the tests run in, lent to a temporary clone."""

import sys
from pathlib import Path


def lend_environment(folder: Path) -> None:
    """Let make in ``folder`` use this environment. A rebuild there removes links, not what they lead to."""
    (folder / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (folder / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    for what in (".ready", ".operators"):
        (folder / ".venv" / what).touch()
