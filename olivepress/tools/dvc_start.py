"""DVC, whose stages cannot be ended before they are able to answer: ``python -m olivepress.tools.dvc_start repro``.

stages/__init__.py holds SIGINT and SIGTERM back until core/stage.py answers them. Until Python gets there it takes some
30 ms, in which a Ctrl-C would end it with a traceback of Python's own start, and the outputs that DVC has deleted would
not be brought back. Blocked signals stay so through fork and exec: so they are blocked from the first moment. A command
that is no stage of ours would never let them through again; it starts as DVC starts it.
"""

import shutil
import signal
import sys
from typing import Any

OURS = "python -m stages."


def main() -> int:
    """Run DVC with this process's arguments; returns its exit status."""
    from dvc.cli import main as dvc
    from dvc.stage import run

    start = run._run

    def held(executable: str | None, cmd: str, **kwargs: Any) -> None:
        if OURS in cmd and hasattr(signal, "pthread_sigmask"):
            kwargs["preexec_fn"] = _hold
            executable = shutil.which("bash") or executable  # dash, Debian's sh, lets all signals through as it starts
        start(executable, cmd, **kwargs)

    run._run = held
    return dvc(sys.argv[1:])


def _hold() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    sys.exit(main())
