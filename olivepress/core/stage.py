"""What every stage script shares: its command line, its way to fail and its cost record."""

import functools
import math
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from olivepress.core import report
from olivepress.core.errors import PressError
from olivepress.core.lacks import lack
from olivepress.core.machine import record_machine, used_cuda
from olivepress.core.offline import hub_offline
from olivepress.core.outputs import write_json
from olivepress.core.restore import restore_earlier

# PyTorch's threads meet after each small product, and GNU OpenMP's wait for one another by spinning for a millisecond
# unless told otherwise, before PyTorch is imported. Beside other work that takes the very core that the awaited thread
# needs: 300 steps of a small network took 12 to 52 s on two busy cores, with so few spins 2 s, as passive waiting does,
# and 0.6 s on two quiet ones, where passive waiting took 1.4. No number changes by it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# An existing file or folder that a stage reads; a place that it writes.
InFile = click.Path(exists=True, dir_okay=False, path_type=Path)
InFolder = click.Path(exists=True, file_okay=False, path_type=Path)
Out = click.Path(path_type=Path)

ENDING = {signal.SIGINT, signal.SIGTERM}
_told: list[int] = []  # the signal that has asked it to end
INTERRUPTED = "Interrupted: nothing was written, earlier outputs are untouched."


class Number(click.FloatRange):
    """A finite number within bounds. Click's own range lets NaN through, since NaN is neither below nor above."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def stage(function: Callable[..., dict[str, Any] | None], *, hub: bool = False) -> click.Command:
    """Turn a function into a stage: a Click command with ``--cost`` and the house's error handling.

    ``dvc.yaml`` unpacks params under their own spelling (``--group_size``), people type hyphens: both work.
    ``hub``: it may ask the Hugging Face hub, as any stage may where the model's own code is trusted.
    The function may return figures of its own (seconds, tokens per second, ...) for the cost file.

    Ctrl-C ends with status 130 and SIGTERM with 143, both after the partial outputs are removed (a download keeps
    what it has, to go on from there). Under `dvc repro` a stage that fails brings earlier outputs back.
    """

    @functools.wraps(function)
    def run(cost: Path | None, **options: Any) -> None:
        signal.signal(signal.SIGTERM, _terminate)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)
        start = time.perf_counter()
        try:
            with nullcontext() if hub or options.get("trust_remote_code") else hub_offline():
                figures = function(**options) or {}
        except KeyboardInterrupt:
            report.note(INTERRUPTED)
            raise SystemExit(130) from None
        _end_if_told()
        if cost:
            write_json(cost, {"seconds": round(time.perf_counter() - start, 2), **figures, **_memory()})
            record_machine(cost)

    cost_option = click.option("--cost", type=Out, help="Where to write the cost: seconds, peak memory.")
    settings = {
        "token_normalize_func": lambda name: name.replace("_", "-"),
        "show_default": True,
        "max_content_width": 110,
    }
    return click.command(context_settings=settings, cls=_Stage)(cost_option(run))


class _Stage(click.Command):
    """A command that leaves earlier outputs where they were if it fails, whatever the reason, and ends with DVC."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        _told.clear()
        _end_with_dvc()
        try:
            with report.logged():
                return self._logged(*args, **kwargs)
        except OSError as error:  # the log itself cannot be written
            said = lack(error)
            if said is None:
                raise
            restore_earlier()
            report.error(said)
            raise SystemExit(f"Error: {said}") from error

    def _logged(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with _answered():
                return super().main(*args, **kwargs)
        except BaseException as error:
            if not isinstance(error, SystemExit) or error.code:
                _let_go(error)
                restore_earlier()
            if isinstance(error, Exception) and report.watched():
                traceback.print_exc()
                report.error(f"{type(error).__name__}: {error}")
                raise SystemExit(1) from error
            raise

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _reported():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _reported():
            return super().invoke(ctx)


@contextmanager
def _reported() -> Iterator[None]:
    """Click prints its errors to the standard error; where that is a log, people get them, too.

    What the machine lacks is an error of the same kind. After a signal nothing is: it is what the signal was made into.
    """
    try:
        try:
            yield
        except (click.exceptions.Exit, SystemExit, KeyboardInterrupt):
            raise
        except click.ClickException:
            _end_if_told()
            raise
        except BaseException as error:  # what Rust panics about is no Exception
            _end_if_told()
            said = lack(error)
            if said is None:
                raise
            raise PressError(said) from error
    except click.ClickException as error:
        report.error(error.format_message())
        raise


def _end_with_dvc() -> None:
    """Under DVC on Linux: get SIGTERM when DVC dies. What ends DVC (a cluster, `docker stop`) often tells it alone."""
    if not os.environ.get("DVC_STAGE"):
        return
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, _interrupt)
    if sys.platform == "linux":
        dvc = _dvc()
        if dvc is not None:
            threading.Thread(target=_terminate_after, args=(dvc,), daemon=True).start()


@contextmanager
def _answered() -> Iterator[None]:
    """Within the block, what stages/__init__.py has made wait is answered: Ctrl-C before the stage's work, too."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        yield
    except KeyboardInterrupt:
        report.note(INTERRUPTED)
        raise SystemExit(130) from None


def _dvc() -> int | None:
    """A file descriptor of the DVC that runs this stage: the nearest ancestor that was not started with its name.

    Between the two may be a shell that waits for the stage (dash), or none (bash makes way for a single command).
    """
    name = f"DVC_STAGE={os.environ['DVC_STAGE']}".encode()
    process = os.getppid()
    try:
        while name in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        return os.pidfd_open(process)
    except OSError:  # another user's process, or /proc is hidden
        return None


def _terminate_after(process: int) -> None:
    """Wait until the process (a file descriptor) has ended, then send SIGTERM to this one."""
    select.select([process], [], [])
    os.kill(os.getpid(), signal.SIGTERM)


def _let_go(error: BaseException | None) -> None:
    """Free what the functions that failed still hold, a model say: even to start a process takes some memory."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _end_if_told() -> None:
    """End as the signal said that came before, if one did.

    What it raised may have become another error on its way: of a class that was just being defined Python 3.11 makes a
    RuntimeError, libraries do so around an import; or it was lost in a callback.
    """
    if _told:
        if _told[0] == signal.SIGINT:
            report.note(INTERRUPTED)
        raise SystemExit(128 + _told[0]) from None


def _terminate(signum: int, frame: object) -> None:
    """SIGTERM unwinds the stack like an exception, so that partial outputs are removed; once.

    It may come from outside and from the thread that waits for DVC: the cleaning up shall not end midway.
    """
    _end_once(signum)
    report.note("Terminated: nothing was written, earlier outputs are untouched.")
    raise SystemExit(128 + signum)


def _interrupt(signum: int, frame: object) -> None:
    """Ctrl-C; under DVC once: it comes from the terminal and from DVC or the runner, too."""
    _end_once(signum)
    raise KeyboardInterrupt


def _end_once(signum: int) -> None:
    """What else comes is ignored: the cleaning up shall not end midway. By hand a second Ctrl-C does end it."""
    _told.append(signum)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.environ.get("DVC_STAGE"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _memory() -> dict[str, int]:
    """The most memory that this process had at a time, and of its GPU, in MiB."""
    figures = {"peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}
    cuda = used_cuda()
    if cuda:
        figures["peak_gpu_memory_mib"] = round(cuda.max_memory_allocated() / 2**20)
        figures["peak_gpu_reserved_mib"] = round(cuda.max_memory_reserved() / 2**20)
    return figures
