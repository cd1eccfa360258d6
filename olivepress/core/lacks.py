"""What a machine lacks while a stage runs: disk, memory, rights, file handles; and memory that is known to be lacking.

Libraries say it in many ways: with an errno or without one, as a MemoryError, a RuntimeError or an ImportError.
"""

import errno
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from olivepress.core.errors import PressError

LACKS = {
    errno.ENOSPC: "no disk space left while writing{}: free some and rerun.",
    errno.EDQUOT: "no disk space left while writing{}: your quota is used up. Free some and rerun.",
    errno.EFBIG: "no disk space left while writing{}: files may not be so large here (ulimit -f). Raise it.",
    errno.EROFS: "cannot write{}: the file system is read-only. Mount it for writing and rerun.",
    errno.EACCES: "no right to use{}. Give yourself the right (chmod, chown), or run as its owner.",
    errno.EPERM: "no right to use{}. Give yourself the right (chmod, chown, chattr), or run as its owner.",
    errno.EMFILE: "too many open files{}. Raise the limit (ulimit -n 1024) and rerun.",
    errno.ENFILE: "too many open files on this machine{}. End what else holds files, and rerun.",
    errno.ENOMEM: "memory runs out{}. End what else runs, take a smaller batch or model, or a larger machine.",
}
# How it is said without an errno.
WORDS = {
    # the last is NumPy's, which forgets the errno
    errno.ENOSPC: re.compile(r"No space left on device|database or disk is full|\d+ requested and \d+ written"),
    errno.EFBIG: re.compile(r"File too large"),
    errno.EROFS: re.compile(r"Read-only file system|attempt to write a readonly database"),
    errno.EMFILE: re.compile(r"Too many open files"),
    errno.ENOMEM: re.compile(
        r"Cannot allocate memory|can't allocate memory|not enough memory|bad_?alloc|failed to map segment"
        r"|can't start new thread|Resource temporarily unavailable|[Oo]ut of memory|Failed to allocate memory"
    ),
}


# Of libraries in Rust: safetensors' own error, and what becomes of a panic, which is no Exception.
FOREIGN = ("SafetensorError", "PanicException")
# Whose errors (Fail, RuntimeException, ...) derive from Exception alone.
FOREIGN_PACKAGE = "onnxruntime"


def lack(error: BaseException) -> str | None:
    """What the machine lacks, as a message to the user, if ``error`` or what it came from says so; None if not."""
    for one in _causes(error):
        number = errno.ENOMEM if isinstance(one, MemoryError) else getattr(one, "errno", None)
        if number in LACKS and not isinstance(one, PressError):
            return LACKS[number].format(_where(one))
        if isinstance(one, (OSError, RuntimeError, ImportError, sqlite3.Error)) or _foreign(type(one)):
            said = next((number for number, words in WORDS.items() if words.search(str(one))), None)
            if said is None and "unable to open database file" in str(one) and _few_handles():
                said = errno.EMFILE
            if said:
                return LACKS[said].format(_where(one))
    return None


# DVC has some twenty files open.
FEW_HANDLES = 64


def _few_handles() -> bool:
    """Whether this process may have so few files open that SQLite, which does not say why it fails, fails for that."""
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] < FEW_HANDLES


def raise_handles() -> None:
    """From here on this process may have as many files open as its hard limit has it (ulimit -Hn)."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS takes no unbounded one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _foreign(kind: type[BaseException]) -> bool:
    """By name: to import these libraries for it would take a second in each command."""
    return kind.__name__ in FOREIGN or kind.__module__.partition(".")[0] == FOREIGN_PACKAGE


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that it was raised from."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__


def _where(error: BaseException) -> str:
    filename = getattr(error, "filename", None)
    return f" {filename}" if isinstance(filename, (str, Path)) else ""


# ---- memory

# What torch, transformers and a model of no size took (Linux, CPU): memory, and address space, which ulimit -v bounds.
LIBRARIES = 400 * 2**20
LIBRARIES_MAPPED = 1300 * 2**20


def need_memory(size: int, what: str) -> None:
    """PressError if this process cannot get ``size`` bytes, which ``what`` takes at least.

    To that comes what torch and transformers take, where they are not loaded yet: call it before they are.
    """
    for free, libraries in _free():
        need = size + (0 if "torch" in sys.modules else libraries)
        if need > free:
            raise PressError(
                f"memory: {what} needs at least {need / 2**30:.1f} GiB, {max(free, 0) / 2**30:.1f} GiB is free here. "
                "End what else runs, raise the limit (ulimit -v, docker run --memory), take a smaller model or a "
                "larger machine."
            )


def need_address_space(size: int, what: str) -> None:
    """PressError if a limit (ulimit -v) leaves this process less than ``size`` bytes of address space for ``what``."""
    free = _free_address_space()
    if free is not None and free < size:
        raise PressError(
            f"memory: {what} needs {size / 2**30:.0f} GiB of address space, of which {max(free, 0) / 2**30:.1f} GiB is "
            "free here. Raise the limit (ulimit -v)."
        )


def _free_address_space() -> int | None:
    """Bytes that a limit leaves; None where there is none."""
    if sys.platform != "linux":
        return None
    import resource

    import psutil

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit - psutil.Process().memory_info().vms


def _free() -> Iterator[tuple[int, int]]:
    """(bytes that this process can still get, bytes of them that libraries take) by each limit that there is."""
    import psutil

    yield psutil.virtual_memory().available, LIBRARIES
    for limit, used in _group_limits():
        yield limit - used, LIBRARIES
    if (free := _free_address_space()) is not None:
        yield free, LIBRARIES_MAPPED


def total_memory() -> int:
    """Bytes of this machine's memory that processes here may have at all."""
    import psutil

    return min([psutil.virtual_memory().total, *(limit for limit, _ in _group_limits())])


def _group_limits(root: Path = Path("/sys/fs/cgroup")) -> Iterator[tuple[int, int]]:
    """(limit, what is used of it and cannot be reclaimed), in bytes, of the control group; a container is one."""
    for limit, used, stat, inactive in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):
            most = int((root / limit).read_text())
            lines = dict(line.split() for line in (root / stat).read_text().splitlines())
            yield most, int((root / used).read_text()) - int(lines.get(inactive, 0))
