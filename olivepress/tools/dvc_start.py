"""DVC, as the pipeline needs it: ``python -m olivepress.tools.dvc_start [--jobs N] repro``.

Its stages cannot be ended before they are able to answer. stages/__init__.py holds SIGINT and SIGTERM back until
core/stage.py answers them. Until Python gets there it takes some 30 ms, in which a Ctrl-C would end it with a traceback
of Python's own start, and the outputs that DVC has deleted would not be brought back. Blocked signals stay so through
fork and exec: so they are blocked from the first moment. A command that is no stage of ours would never let them
through again; it starts as DVC starts it.

With --jobs stages run side by side (side_by_side.py): so many at a time, or with 0 what the machine has room for.

Where the runner (run.py) watches, it is told how many stages this run looks at: DVC has just found out, and it takes
another two seconds to find out again.
"""

import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core import report
from olivepress.tools.held_back import held_back, hold_back

if TYPE_CHECKING:
    from olivepress.tools.warm_stages import WarmStages

OURS = "python -m stages."
MADE = "models"  # where the stages' outputs go: in a clone that never ran there is none
STAGES = "stages are looked at"  # behind their number, for the runner


def main() -> int:
    """Run DVC with this process's arguments; returns its exit status."""
    from dvc.cli import main as dvc
    from dvc.stage import run

    start = run._run

    def held(executable: str | None, cmd: str, **kwargs: Any) -> None:
        if OURS not in cmd or not hasattr(signal, "pthread_sigmask"):
            start(executable, cmd, **kwargs)
            return
        executable = shutil.which("bash") or executable  # dash, Debian's sh, lets all signals through as it starts
        if threading.current_thread() is threading.main_thread():
            start(executable, cmd, preexec_fn=hold_back, **kwargs)
            return
        with held_back():  # no Python between fork and exec where other threads are; this one gets no signals anyhow
            start(executable, cmd, **kwargs)

    run._run = held
    arguments = sys.argv[1:]
    warm = None
    if arguments[:1] == ["--jobs"]:
        warm = _side_by_side(int(arguments[1]))
        arguments = arguments[2:]
    if report.watched():
        _tell_how_many()
    try:
        return dvc(arguments)
    finally:
        if warm:
            warm.end()


def _tell_how_many() -> None:
    """Before DVC says anything of a stage, in both ways in which it does: what is said otherwise may come later."""
    from dvc.repo import reproduce

    through = reproduce._reproduce

    def told(stages: list[Any], *arguments: Any, **options: Any) -> list[Any]:
        report.emit("stages", stage="", text=str(len(stages)))
        print(len(stages), STAGES, flush=True)
        return through(stages, *arguments, **options)

    reproduce._reproduce = told


def _side_by_side(jobs: int) -> "WarmStages | None":
    from olivepress.core.params import asks_for_cuda, read_params
    from olivepress.core.providers import CPU
    from olivepress.tools.room import room
    from olivepress.tools.side_by_side import SideBySide
    from olivepress.tools.warm_stages import WarmStages

    root = Path.cwd()
    params = read_params(root / "params.yaml") if (root / "params.yaml").is_file() else {"targets": {}}
    on_gpu = bool(params["targets"] and asks_for_cuda(params))
    on_cpu = frozenset(name for name, target in params["targets"].items() if target["provider"] == CPU)
    places = (lambda: jobs) if jobs else (lambda: room(root, on_gpu=on_gpu))
    # forks of what has PyTorch loaded are safe on Linux; macOS's own libraries do not take them
    warm = WarmStages() if sys.platform == "linux" and not on_gpu else None
    if warm and params["targets"] and not (root / MADE).exists():
        warm.start()
    SideBySide(places, on_cpu, warm).install()
    return warm


if __name__ == "__main__":
    sys.exit(main())
