"""Processes that tests start, signal and look for."""

import signal
import subprocess
from pathlib import Path
from typing import Any


def begin(command: list[str], **options: Any) -> subprocess.Popen:
    """A process that a Ctrl-C reaches: an ignored SIGINT (a test run in the background of a shell) would be inherited,
    a handler is not."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.signal(signal.SIGINT, handler)


def folder_of(pid: str) -> Path | None:
    """The working folder of a process; None of one that has ended, or somebody else's."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None
