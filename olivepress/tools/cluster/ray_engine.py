"""Groups of stages as tasks of a Ray cluster: machines of any cloud, of Kubernetes (KubeRay), or this one.

Ray starts a group as soon as those that it needs are done, where there is room for it, and starts it again elsewhere if
its machine dies. A group is a folder of its own with the project's tracked files; nothing but the DVC remote is shared.
"""

import io
import os
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError
from olivepress.core.process import last_words
from olivepress.core.report import note
from olivepress.tools.azure_job import snapshot
from olivepress.tools.cluster.groups import Group

RAN = re.compile(rb"^Running stage '([^']+)'", re.M)
# Ray sets it to a task's processors; torch's threads are params, and decide how sums are rounded
THREADS = "OMP_NUM_THREADS"
QUIET = {"log_to_driver": False, "logging_level": "error"}
STARTS = 3


@dataclass(frozen=True)
class Done:
    """What a group did: the machine, seconds from its start to its end, the stages that it ran and did not take."""

    name: str
    machine: str
    process: int
    seconds: float
    ran: tuple[str, ...]


def packed(root: Path, settings: dict[str, str]) -> bytes:
    """The tracked files of ``root``, with DVC pointed to its remote, as a tar archive."""
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="olive-press-code-") as folder:
        snapshot(root, Path(folder), settings)
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            tar.add(folder, arcname=".")
    return archive.getvalue()


def run_group(name: str, stages: tuple[str, ...], archive: bytes, threads: str | None, *_: Done) -> Done:
    """The task: ``work`` in a folder of its own. The last arguments are the groups that it waits for."""
    began = time.monotonic()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop(THREADS, None)
    if threads is not None:
        environment[THREADS] = threads
    with tempfile.TemporaryDirectory(prefix=f"olive-press-{name}-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        command = [sys.executable, "-m", "olivepress", "cluster", "work", *stages]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise PressError(_first_error(done))
    ran = tuple(stage.decode() for stage in RAN.findall(done.stdout))
    return Done(name, socket.gethostname(), os.getpid(), time.monotonic() - began, ran)


def _first_error(done: "subprocess.CompletedProcess[bytes]") -> str:
    """What the stage said; DVC and `cluster work` only say afterwards that it failed."""
    lines = (done.stderr + done.stdout).decode(errors="replace").splitlines()
    said = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return said[0] if said else last_words(done)


def options(group: Group, cpus: float, gpus: float) -> dict[str, Any]:
    """What Ray is told of a group."""
    return {"name": group.name, "num_cpus": cpus, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}


def tasks(every: list[Group], cpus: float, gpus: float) -> dict[str, Any]:
    """A task for each group, by its name, ready for ``remote``; PressError with what Ray objects to. Starts nothing."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    try:
        return {group.name: ray.remote(run_group).options(**options(group, cpus, gpus)) for group in every}
    except (TypeError, ValueError) as error:
        raise PressError(f"Ray refuses a group: {error}") from error


def run(
    every: list[Group], archive: bytes, *, address: str | None, workers: int, cpus: float, gpus: float
) -> list[Done]:
    """Run the groups on the cluster at ``address``, or on ``workers`` workers of this machine; all of what they did.

    PressError for a cluster that cannot be reached, one that can never hold a group, and a group that fails: then what
    is not begun is not begun, and what was done stays on the remote.
    """
    ready = tasks(every, cpus, gpus)
    import ray
    from ray.exceptions import RayError

    if address:
        _connect(address)
    else:
        _start(workers * cpus, workers * gpus)
    try:
        _check_room(cpus, gpus)
        code = ray.put(archive)
        refs: dict[str, Any] = {}
        for group in every:
            before = [refs[name] for name in group.needs]
            refs[group.name] = ready[group.name].remote(
                group.name, group.stages, code, os.environ.get(THREADS), *before
            )
        return list(_ended(refs))
    except RayError as error:
        raise PressError(f"Ray: {' '.join(str(error).split())[:600]}") from error
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    import ray

    try:
        ray.init(address, **QUIET)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise PressError(f"--address {address}: no Ray cluster: {' '.join(str(error).split())[:300]}") from error


def _start(cpus: float, gpus: float) -> None:
    """Ray on this machine. It gives its own processes half a minute to begin, too little where others compute."""
    import ray

    os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
    os.environ.setdefault("RAY_worker_niceness", "0")  # stages are not the background of anything
    for left in reversed(range(STARTS)):
        try:
            ray.init(num_cpus=cpus, num_gpus=gpus or None, include_dashboard=False, **QUIET)
            return
        except Exception as error:  # Ray raises nothing narrower
            ray.shutdown()
            why = " ".join(str(error).split())[:300]
            if not left:
                raise PressError(f"Ray did not start on this machine: {why}") from error
            note(f"Ray did not start ({why}); once more.")


def _check_room(cpus: float, gpus: float) -> None:
    import ray

    largest = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in largest):
        has = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in largest)
        raise PressError(
            f"a group needs {cpus:g} CPUs and {gpus:g} GPUs, and no machine of the cluster has them ({has}): say less "
            "by --cpus and --gpus, or add a machine."
        )


def _ended(refs: dict[str, Any]) -> list[Done]:
    """Wait for every group, and say which are done."""
    import ray

    waiting = {ref: name for name, ref in refs.items()}
    ended: list[Done] = []
    note(f"{len(waiting)} groups of stages: {', '.join(refs)}")
    while waiting:
        (ref, *_), _ = ray.wait(list(waiting))
        name = waiting.pop(ref)
        try:
            done = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise PressError(f"group {name}: {_why(error)}") from error
        ended.append(done)
        note(
            f"{len(ended)}/{len(refs)} {name}: {len(done.ran)} stages in {done.seconds:.0f} s on {done.machine}, "
            f"worker {done.process}"
        )
    return ended


def _why(error: Any) -> str:
    cause = error.cause
    while getattr(cause, "cause", None) is not None:
        cause = cause.cause
    return cause.message if isinstance(cause, PressError) else " ".join(str(cause).split())[:600]
