"""How a run is shown: bars in a terminal, plain lines (no control characters) everywhere else."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click

QUIET_SECONDS = 60  # between two lines about one long loop where there are no bars


class Screen(Protocol):
    """A stage starts, is at ``done`` of ``total``, ends; ``head`` is its place and name, "[5/14] finetune travel"."""

    def start(self, head: str) -> None: ...
    def progress(self, head: str, label: str, done: int, total: int | None) -> None: ...
    def end(self, head: str, how: str, style: str) -> None: ...
    def say(self, text: str) -> None: ...


@contextmanager
def screen() -> Iterator[Screen]:
    """Bars if the standard output is a terminal that can move its cursor, else lines."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        yield Lines()
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    head, state = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[state]}"))
    columns = [SpinnerColumn(), head, BarColumn(bar_width=24), TimeElapsedColumn(), state]
    with Progress(*columns, transient=True) as bars:
        yield Bars(bars)


class Lines:
    """A line at the start and one at the end of a stage, and one a minute in between."""

    def __init__(self) -> None:
        self.told: dict[str, float] = {}  # of the stages that run, when a line last told of them

    def start(self, head: str) -> None:
        self.told[head] = time.monotonic()
        self.say(f"{head}: running")

    def progress(self, head: str, label: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if total and now - self.told.get(head, now) >= QUIET_SECONDS:
            self.told[head] = now
            self.say(f"{': '.join(filter(None, (head, label)))}: {done} of {total}")

    def end(self, head: str, how: str, style: str) -> None:
        self.told.pop(head, None)
        self.say(f"{head}: {how}")

    def say(self, text: str) -> None:
        click.echo(text)
        sys.stdout.flush()


class Bars:
    """What has ended stands still above a bar for each stage that runs."""

    def __init__(self, bars: "rich.progress.Progress") -> None:  # noqa: F821 - rich is imported where it is used
        self.bars = bars
        self.tasks: dict[str, rich.progress.TaskID] = {}  # noqa: F821
        self.labels: dict[str, tuple[str, int | None]] = {}

    def start(self, head: str) -> None:
        self.tasks[head] = self.bars.add_task(head, total=None, state="")

    def progress(self, head: str, label: str, done: int, total: int | None) -> None:
        if head not in self.tasks:
            return
        number = self.tasks[head]
        if (label, total) != self.labels.get(head):
            self.labels[head] = (label, total)
            self.bars.reset(number, total=total, state="", description=": ".join(filter(None, (head, label))))
        self.bars.update(number, completed=done)
        left = next(task.time_remaining for task in self.bars.tasks if task.id == number)
        state = f"{done} of {total}" if total else f"{done}"
        self.bars.update(number, state=state if left is None else f"{state}, {duration(left)} left")

    def end(self, head: str, how: str, style: str) -> None:
        self.labels.pop(head, None)
        if head in self.tasks:
            self.bars.remove_task(self.tasks.pop(head))
        self._print(head, f" {how}", style)

    def say(self, text: str) -> None:
        self._print(text, "", "")

    def _print(self, plain: str, styled: str, style: str) -> None:
        from rich.text import Text

        self.bars.console.print(Text(plain).append(styled, style), soft_wrap=True, highlight=False)


def duration(seconds: float) -> str:
    """4.2 s, 75 s, 12 min 30 s."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
