"""What comes from elsewhere and is run, or read by a library in C, gets a process of its own, some time and memory.

A chat template is a program; a damaged Parquet file, or a tokenizer's regular expression, has a library in C or Rust
do what its authors did not foresee. A process that can be killed, and may crash, does it: what it found comes back.

A bound of the address space (RLIMIT_AS) is for such a process alone. Libraries crash where it is reached: Arrow's
allocator takes a GiB of it at once, and its first thread that gets none ends the process (docs/log/2026-11-27-fuzz.md).
"""

import faulthandler
import gc
import multiprocessing
import operator
import os
import pickle
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

SECONDS = 10
MEMORY = 2**30
# So many times as long where the process got less than half a processor: others have them, or it was stopped (Ctrl-Z).
STARVED = 4


class TooMuch(Exception):
    """It took longer, or more memory, than it may, or ended its process."""


@contextmanager
def limited(seconds: float | None = None, memory: int | None = None) -> Iterator[None]:
    """Within the block, Python code that takes longer than ``seconds`` (default: SECONDS) raises TooMuch.

    So does what asks for ``memory`` bytes more (on Linux), where that is given. In the main thread only, as signals
    are; elsewhere nothing is limited.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seconds = SECONDS if seconds is None else seconds
    over = False

    def stop(signum: int, frame: object) -> None:
        if not over:
            raise TooMuch(f"does not end within {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    begun = time.monotonic()
    left, again = signal.setitimer(signal.ITIMER_REAL, seconds)  # of a timer that somebody else has set
    try:
        with bounded(memory):
            yield
    except MemoryError as error:
        raise too_large(memory) from error
    finally:
        over = True  # what the alarm would interrupt from here on has to be done
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left and max(left - (time.monotonic() - begun), 1e-3), again)


@contextmanager
def bounded(memory: int | None) -> Iterator[None]:
    """Within the block this process gets ``memory`` bytes of address space more than it has, on Linux.

    For a process of its own, which may crash.
    """
    if memory is None or sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = used + memory if hard == resource.RLIM_INFINITY else min(used + memory, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def signals_later() -> Iterator[None]:
    """SIGTERM and SIGINT that come within are answered after it; a fork made within is not ended by them until it says.

    Around a fork: what a signal raises in the callbacks that libraries have for one (logging's) is printed and lost.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are answered in the main thread
        yield
        return
    came: list[int] = []
    process = os.getpid()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    before = {number: answer for number, answer in before.items() if callable(answer)}
    for number in before:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        if os.getpid() == process:
            for number, answer in before.items():
                signal.signal(number, answer)
            for number in came:
                signal.raise_signal(number)


def crash_quietly() -> None:
    """From here on this process leaves no core file, and neither Python nor a library prints how it ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def too_large(memory: int | None) -> TooMuch:
    """What to say of a MemoryError within such a bound."""
    return TooMuch(f"takes more than {memory >> 20:,} MiB of memory" if memory else "takes more memory than there is")


def apart(function: Callable[[], T], seconds: float | None = None, memory: int | None = None) -> T:
    """What ``function`` returns, or raises, in a process of its own; the rest as for `each_apart`."""
    return next(each_apart(lambda: [function()], seconds, memory=memory))


def each_apart(
    function: Callable[[], Iterable[T]],
    seconds: float | None = None,
    *,
    whole: float | None = None,
    memory: int | None = None,
) -> Iterator[T]:
    """What ``function`` yields, one after the other as it comes, or raises, in a process of its own, a fork.

    TooMuch if it takes longer than ``seconds`` (default: SECONDS) for one, or ``whole`` for all, or asks for
    ``memory`` bytes more than this process has, or if its process dies. Time is that of the clock, up to STARVED times
    as much where its process hardly ran. Values and errors are pickled on their way.
    """
    seconds = SECONDS if seconds is None else seconds
    context = multiprocessing.get_context("fork")
    heard, says = context.Pipe(duplex=False)
    child = context.Process(target=_say, args=(function, memory, heard, says), daemon=True)
    with signals_later():
        child.start()
    says.close()
    begun = time.monotonic()

    def left(since: float, allowed: float) -> float:
        took = time.monotonic() - since
        if took >= allowed and _processor_seconds(child.pid) < (time.monotonic() - begun) / 2:
            allowed *= STARVED
        return allowed - took

    try:
        while True:
            asked = time.monotonic()
            while True:
                waits = {seconds: left(asked, seconds)} | ({} if whole is None else {whole: left(begun, whole)})
                allowed, wait = min(waits.items(), key=operator.itemgetter(1))
                if heard.poll(max(wait, 0)):
                    break
                if wait <= 0:
                    raise TooMuch(f"does not end within {allowed:g} seconds")
            try:
                kind, value = heard.recv()
            except (EOFError, OSError):
                child.join()
                raise TooMuch(f"ends the process that does it ({_status(child.exitcode or 0)})") from None
            if kind == "yields":
                yield value
            elif kind == "raises":
                raise value
            else:
                return
    finally:
        child.kill()
        child.join()
        heard.close()


def _processor_seconds(pid: int) -> float:
    import psutil  # which an installation that only answers does not have

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:  # it has ended, and what it said is read
        return 0
    return times.user + times.system


def _status(code: int) -> str:
    return signal.strsignal(-code) or f"signal {-code}" if code < 0 else f"status {code}"


def _say(function: Callable[[], Iterable[Any]], memory: int | None, heard: Connection, says: Connection) -> None:
    """In the process of its own: send what ``function`` yields or raises, then that it is done."""
    heard.close()  # so that this process ends with the other one: nobody else reads
    for number in (signal.SIGTERM, signal.SIGINT):  # not as a stage answers them: there is nothing to bring back here
        signal.signal(number, signal.SIG_DFL)
    crash_quietly()
    gc.freeze()  # what is here already is not looked at, page by page, for what can go
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a fork has none of the threads that it would ask
    try:
        try:
            with bounded(memory):
                for value in function():
                    says.send(("yields", value))
            said: tuple[str, Any] = ("ends", None)
        except MemoryError:
            said = ("raises", too_large(memory))
        except Exception as error:
            said = ("raises", _sendable(error))
        except BaseException as error:  # Rust's panics are no Exception
            words = " ".join(str(error).split())[:100]
            said = ("raises", TooMuch(f"ends in an error of its library ({words or type(error).__name__})"))
        says.send(said)
    except BrokenPipeError:  # nobody listens any more
        pass


def _sendable(error: Exception) -> Exception:
    """The error if it can be pickled and read again, without what it came from; else one that says the same."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a class of somebody else's does
        return RuntimeError(f"{type(error).__name__}: {error}")
