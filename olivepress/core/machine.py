"""What costs were measured on, and costs as plots: beside results/cost, and like it never an output of a stage."""

import fcntl
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

from olivepress.core.outputs import write_csv, write_json

SPEED = "median_tokens_per_second"


def record_machine(cost: Path) -> None:
    """Where ``cost`` lies below a folder named cost, write to the folder machine beside that what this machine is.

    facts/…: processor and GPU, by stage. time/ and speed/: seconds and tokens per second of every stage whose cost is
    there, in the order in which they ran, for `dvc plots`. No metrics: `dvc metrics` has numbers of the stages only.
    Stages that run side by side may end at the same time: they write the tables one after the other.
    """
    folder = next((parent for parent in cost.parents if parent.name == "cost"), None)
    if folder is None:
        return
    machine = folder.parent / "machine"
    cuda = used_cuda()
    gpu = {"gpu": cuda.get_device_name()} if cuda else {}
    facts = {"machine": platform.machine(), "processor": processor(), "cpus": os.cpu_count(), **gpu}
    write_json(machine / "facts" / cost.relative_to(folder), facts)
    with _alone(machine):
        costs = _costs(folder)
        for place, column, key in (("time", "seconds", "seconds"), ("speed", "tokens_per_second", SPEED)):
            rows = [(stage, found[key]) for stage, found in costs.items() if key in found]
            write_csv(machine / place / f"{column}.csv", ("stage", column), rows)


def _costs(folder: Path) -> dict[str, dict[str, Any]]:
    """Stage -> its cost, in the order in which they ran; DVC removes a stage's cost while another reads them."""
    found = []
    for path in folder.rglob("*.json"):
        with suppress(FileNotFoundError):
            found.append((path.stat().st_mtime, path, json.loads(path.read_bytes())))
    found.sort(key=itemgetter(0))
    return {" ".join(path.relative_to(folder).with_suffix("").parts): cost for _, path, cost in found}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time is within; the lock is the folder's own and goes with the process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def processor() -> str:
    """The processor's name, as Linux gives it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def take_threads(number: int) -> None:
    """Let PyTorch compute on the CPU with ``number`` threads, whatever the machine has; 0: one for each of its cores.

    Long sums are shared out among the threads, so with another number of them the last bits are others. By itself MKL
    takes no more threads than there are cores; after this call of PyTorch's, it takes as many as it is told.
    """
    if number:
        import torch

        torch.set_num_threads(number)


def used_cuda() -> Any:
    """torch.cuda where this process used it; a stage that did without torch shall not load it for this."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
