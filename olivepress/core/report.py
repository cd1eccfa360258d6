"""What a stage says to the people who watch (progress, notes, its error), apart from the noise of its libraries.

Under DVC the standard streams of a stage go to ``logs/<stage>.log``, whatever writes to them. `olivepress repro` also
names a FIFO in the environment; a stage then writes events there, a JSON object a line, and the runner shows them.
Without it they go to where the streams went before. By hand, without DVC, all streams are left as they are.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from olivepress.core.errors import shown

if TYPE_CHECKING:
    from tqdm import tqdm

LOGS = Path("logs")
EVENTS = "OLIVEPRESS_EVENTS"  # environment variable: the runner's FIFO
SECONDS = 1.0  # that a loop takes before its progress is worth showing
# A line up to this many bytes reaches the FIFO in one piece, whichever processes write (POSIX's least PIPE_BUF: 512
# bytes, Linux's: 4096).
LONGEST = 3000

_terminal: list[TextIO] = []  # where people look while the standard streams go to a log


def log_path(stage: str) -> Path:
    """The log of a stage, relative to the project's folder."""
    return LOGS / f"{stage}.log"


@contextmanager
def logged() -> Iterator[None]:
    """Under DVC: within the block, what this process and its children print goes to the stage's log."""
    stage = os.environ.get("DVC_STAGE")
    if not stage:
        yield
        return
    path = log_path(stage)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    streams = {1: sys.stdout, 2: sys.stderr}
    kept = {number: os.dup(number) for number in streams}
    log = os.open(path, os.O_WRONLY | os.O_APPEND)
    terminal = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1)
    _terminal.append(terminal)
    try:
        _switch(streams, dict.fromkeys(streams, log))
        emit("start")
        if watched():  # every bar is tqdm's: AutoAWQ's, the Trainer's, those of downloads
            from tqdm import tqdm

            tqdm.display = _tell
        yield
    finally:
        _switch(streams, kept)
        _terminal.remove(terminal)
        terminal.close()
        for number in (log, *kept.values()):
            os.close(number)


def _switch(streams: dict[int, TextIO], targets: dict[int, int]) -> None:
    for number, stream in streams.items():
        stream.flush()
        os.dup2(targets[number], number)


def watched() -> bool:
    """Whether a runner shows what this stage reports."""
    return EVENTS in os.environ


def note(text: str) -> None:
    """One line for whoever watches: something to know, not an error."""
    text = shown(text)
    if not emit("note", text=text):
        print(text, file=_people(), flush=True)


def error(text: str) -> None:
    """Why the stage fails. (Click prints it to the standard error, which is a log under DVC.)"""
    text = shown(text)
    if not emit("error", text=text) and _terminal:
        print(f"Error: {text}", file=_terminal[-1], flush=True)


def progress(items: Iterable[Any], label: str, total: int | None = None) -> Iterable[Any]:
    """The items, under a bar of how many there were and the time left; ``total`` where they have no len."""
    from tqdm import tqdm

    if watched():  # no text of it, not even the line break at its end
        return tqdm(items, desc=label, total=total, file=StringIO())
    # disable=None: no bar where there is no terminal
    return tqdm(items, desc=label, total=total, file=_people(), disable=None, dynamic_ncols=True)


def _tell(bar: "tqdm", msg: str | None = None, pos: int | None = None) -> bool:
    """tqdm.display for a stage that is watched: an event, no text. Not told: loops of a moment, and inner ones."""
    now = time.monotonic()
    since = bar.__dict__.setdefault("_since", now)
    if now - since >= SECONDS and bar.n and not bar.pos:
        unit, label = (1e6, "MB") if bar.unit in ("B", "iB") else (1, "")
        done, total = (None if number is None else round(number / unit) for number in (bar.n, bar.total))
        emit("progress", label=f"{(bar.desc or '').strip(': ')} {label}".strip(), done=done, total=total)
    return True


def _people() -> TextIO:
    return _terminal[-1] if _terminal else sys.stderr


def emit(kind: str, **values: Any) -> bool:
    """Write an event to the runner's FIFO; False where there is no runner (any more).

    It is of the stage that this process is, or of ``stage`` among ``values``.
    """
    place = os.environ.get(EVENTS)
    if not place:
        return False
    event = {"stage": os.environ.get("DVC_STAGE", ""), "kind": kind, **values}
    while len(json.dumps(event)) > LONGEST and len(event.get("text", "")) > 2:  # a character takes one to six in JSON
        event["text"] = event["text"][: len(event["text"]) * 9 // 10].removesuffix(" …") + " …"
    with suppress(OSError):
        fifo = os.open(place, os.O_WRONLY | os.O_NONBLOCK)  # fails at once where nobody reads
        try:
            os.set_blocking(fifo, True)
            os.write(fifo, (json.dumps(event) + "\n").encode())
            return True
        finally:
            os.close(fifo)
    return False


def read(fifo: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The events in lines of a FIFO; lines that are none (somebody else's) are passed over."""
    for line in fifo:
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and {"stage", "kind"} <= event.keys():
                yield event
