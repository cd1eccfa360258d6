"""Stages that load PyTorch as forks of one process that has it loaded, which saves each some seconds of imports.

The process is multiprocessing's forkserver: it ends with DVC, and a stage that it has forked is a process of its own,
with its own folder, environment, log and exit status. Nothing of this project is loaded in advance (loaded.py), and no
CUDA device is touched: where a profile computes on one, stages are started anew.
"""

import atexit
import multiprocessing
import multiprocessing.connection
import os
import runpy
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import olivepress.core.stage  # noqa: F401 - for what it sets in the environment before PyTorch is loaded
from olivepress.tools.held_back import held_back

STAGES = "auto_opt evaluate evaluate_base fetch finetune prepare quantize reference reference_base"
MODULES = {f"stages.{name}" for name in STAGES.split()}
SHELL = frozenset('$`;&|<>(){}*?[]~#!\\"\n=')  # what a shell would make something of; "'" quotes for shlex as for it


class WarmStages:
    """Runs commands of dvc.yaml that are `python -m stages.NAME OPTIONS` with a NAME of STAGES."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["olivepress.tools.loaded"])
        self._starting = threading.Lock()
        self._works = True

    def start(self) -> None:
        """Begin to load and return at once. ``run`` does so by itself, and waits; where this fails, it copes."""
        with self._starting, suppress(OSError):
            resource_tracker.ensure_running()
            with held_back():
                forkserver.ensure_running()

    def end(self) -> None:
        """No more stages come: DVC's end would wait for a server that is still loading, which has its output open."""
        server = forkserver._forkserver._forkserver_pid
        if server:
            os.kill(server, signal.SIGKILL)

    def run(
        self, cmd: str, folder: Path, environment: dict[str, str], log: Path, told_to_end: Callable[[], bool]
    ) -> int | None:
        """The exit status of ``cmd``, negative for a signal, when it has ended; None if it is to be run by a shell.

        It appends what it prints to ``log``. What would end it is blocked from its first moment (held_back.py): the
        server blocks it from its start, and its forks have that from it. ``told_to_end``: whether a Ctrl-C came, also
        before there was a fork to get it.
        """
        words = shlex.split(cmd) if self._works and not SHELL & set(cmd) else []
        if len(words) < 3 or words[:2] != ["python", "-m"] or words[2] not in MODULES:
            return None
        process = self._context.Process(target=_become, args=(words[2:], folder, environment, log.resolve()))
        with self._starting:
            resource_tracker.ensure_running()  # which lets these signals through where it is not there yet
            try:
                with held_back():
                    process.start()
            except (OSError, EOFError):  # no room for the server, or a TMPDIR too long for its socket
                self._works = False
                return None
        if told_to_end():
            os.kill(process.pid, signal.SIGINT)
        process.join()
        return process.exitcode


def _become(words: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
    """In the fork: run `python -m WORDS`, and what Python does at its end, which a fork's end leaves out."""
    opened = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(opened, number)
    os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_dvc, daemon=True).start()
    Path("/proc/self/comm").write_text(words[0].removeprefix("stages."))  # what `ps -o comm` and `top` show
    sys.argv, sys.path[0] = words[:], ""
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()


def _end_with_dvc() -> None:
    """The server outlives DVC while a fork of it runs, so core/stage.py, which looks at its parent, is not told."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
