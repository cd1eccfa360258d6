"""The stages of one `dvc repro` side by side, as many at a time as there is room for.

DVC runs one stage after another. Minutes go into their commands, during which DVC itself lets go of its lock; its own
work (hashes, the cache, dvc.lock) is not made for threads. So each stage gets a thread, and one thread at a time has
its turn in DVC's code; it hands it on while its stage's command runs. A stage starts once all that it needs have ended.

Two things are said under ``meta`` in dvc.yaml. ``alone: true``: it measures speed, so it waits until no other runs, and
none starts beside it. ``evaluates: TARGET``: of a target for a CPU it computes with every processor, so it runs beside
others, but not beside another such stage, and gives way to the others: to a thread that feeds a GPU, say. As these take
turns they are what the run waits for in the end, so a stage that more of them need starts before one that fewer need.

What DVC says of a stage goes to the runner (tools/run.py) as an event that names the stage, kind "dvc"; so does that it
"ended" or "failed". What its command prints goes to its log.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from olivepress.core import report
from olivepress.tools.warm_stages import WarmStages

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage
    from networkx import DiGraph

INTERRUPTED = 130  # the exit status of what is ended by SIGINT
GIVES_WAY = 10  # of 19, `nice`'s


class SideBySide:
    """Takes the place of how DVC 3.67 goes through stages and runs a stage's command.

    room: how many stages may run at a time just now. on_cpu: the targets that are for a CPU. warm: what starts stages
    in the place of a shell, where it can.
    """

    def __init__(
        self, room: Callable[[], int], on_cpu: frozenset[str] = frozenset(), warm: WarmStages | None = None
    ) -> None:
        self._room = room
        self._on_cpu = on_cpu
        self._warm = warm
        self._turn = threading.Lock()  # who has it holds DVC's lock of the project, too
        self._mine = threading.local()
        self._told_to_end = False
        self._logging: set[str] = set()  # stages whose command has begun their log

    def install(self) -> None:
        """From here on this process's `dvc repro` runs so."""
        from dvc import rwlock
        from dvc.repo import reproduce
        from dvc.stage import run

        noted = rwlock.rwlock

        def noted_by_stage(tmp_dir: str, fs: Any, cmd: str, *rest: Any) -> AbstractContextManager[None]:
            """DVC's note of who reads and writes what: of one process it would be one entry for all stages."""
            return noted(tmp_dir, fs, f"{cmd} ({getattr(self._mine, 'stage', '')})", *rest)

        rwlock.rwlock = noted_by_stage
        reproduce._reproduce = self.reproduce
        run.unlocked_repo = self._between_turns
        self._start, run._run = run._run, self._run
        for handler in logging.getLogger("dvc").handlers:
            handler.addFilter(self._told)

    def reproduce(
        self,
        stages: list["Stage"],
        graph: "DiGraph | None" = None,
        force_downstream: bool = False,
        on_error: str = "fail",
        force: bool = False,
        **options: Any,
    ) -> list["Stage"]:
        """Run ``stages``, in which each follows those that it needs; returns those that changed.

        Where one fails, what runs beside it goes on to its end and is kept. Nothing else starts then, or with
        ``on_error`` "keep-going" nothing that needs it. ReproductionError at the end.
        """
        from dvc.logger import _iter_causes
        from dvc.repo.reproduce import _get_upstream_downstream_nodes, _raise_error, _reproduce_stage, handle_error

        if not stages:
            return []
        stages[0].repo.lock._wait = True  # of what has run for minutes nothing is lost for a `dvc status` meanwhile
        around = {stage: _get_upstream_downstream_nodes(graph, stage) for stage in stages}
        forced = dict.fromkeys(stages, force)
        waiting = dict.fromkeys(self._most_waited_for_first(stages, graph))
        running: dict[Future, Stage] = {}
        locks = _Locks(stages)
        changed: list[Stage] = []
        failed: list[Stage] = []

        def work(stage: "Stage") -> "Stage | None":
            self._mine.stage = stage.addressing
            if self._takes_all(stage) and sys.platform == "linux":  # there threads have one, and hand it to processes
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), GIVES_WAY)
            with self._in_turn(stage.repo):
                return _reproduce_stage(stage, upstream=around[stage][0], force=forced[stage], **options)

        with self._interrupts(), self._nobodys_turn(stages[0].repo):
            while True:
                while stage := self._next(waiting, around, list(running.values())):
                    del waiting[stage]
                    running[_begun(work, stage)] = stage
                if not running:
                    break
                ended = wait(running, return_when=FIRST_COMPLETED).done.pop()
                stage = running.pop(ended)
                if error := ended.exception():
                    report.emit("failed", stage=stage.addressing, text=": ".join(_iter_causes(error)))
                    failed.append(stage)
                    skipped = list(waiting) if on_error == "fail" else handle_error(graph, on_error, error, stage)
                    for other in skipped:
                        waiting.pop(other, None)
                    continue
                report.emit("ended", stage=stage.addressing)
                if found := ended.result():
                    changed.append(found)
                if force_downstream and (found or forced[stage]):
                    forced.update(dict.fromkeys(around[stage][1], True))
        locks.put_in_order()
        if on_error != "ignore" and failed:
            _raise_error(None, *failed)
        return changed

    def _next(self, waiting: dict["Stage", None], around: dict["Stage", Any], running: list["Stage"]) -> "Stage | None":
        """One of ``waiting`` that may start now; what has to be alone comes last."""
        if self._told_to_end or any(map(_alone, running)):
            return None
        ready = [stage for stage in waiting if not any(s in waiting or s in running for s in around[stage][0])]
        if any(map(self._takes_all, running)):
            ready = [stage for stage in ready if not self._takes_all(stage)]
        if not running:
            return min(ready, key=_alone, default=None)
        beside = next((stage for stage in ready if not _alone(stage)), None)
        return beside if beside and len(running) < self._room() else None

    def _most_waited_for_first(self, stages: list["Stage"], graph: "DiGraph | None") -> list["Stage"]:
        """By how many stages that go one at a time need each; otherwise in their order."""
        if graph is None:
            return stages
        from networkx import ancestors  # in DVC's graph a stage points to those that it needs

        return sorted(stages, key=lambda stage: -sum(map(self._takes_all, ancestors(graph, stage))))

    def _takes_all(self, stage: "Stage") -> bool:
        return (stage.meta or {}).get("evaluates") in self._on_cpu

    @contextmanager
    def _in_turn(self, repo: "Repo") -> Iterator[None]:
        with self._turn, repo.lock:
            yield

    @contextmanager
    def _nobodys_turn(self, repo: "Repo") -> Iterator[None]:
        """Within the block the thread that goes through the stages does not hold DVC's lock: they do, in turns."""
        repo.lock.unlock()
        try:
            yield
        finally:
            repo.lock.lock()

    def _between_turns(self, function: Callable[..., None]) -> Callable[..., None]:
        """In the place of `unlocked_repo`, which DVC puts around a stage's command."""

        @wraps(function)
        def run(stage: "Stage", *arguments: Any, **options: Any) -> None:
            stage.repo.lock.unlock()
            stage.repo._reset()
            self._turn.release()
            try:
                function(stage, *arguments, **options)
            finally:
                self._turn.acquire()
                stage.repo.lock.lock()

        return run

    def _run(self, executable: str | None, cmd: str, **options: Any) -> None:
        """A command of a stage, as DVC runs it, but that what it prints goes to the stage's log."""
        from dvc.stage.exceptions import StageCmdFailedError

        stage = self._mine.stage
        path = report.log_path(stage)
        path.parent.mkdir(exist_ok=True)
        if stage not in self._logging:
            path.write_bytes(b"")
            self._logging.add(stage)
        status = None
        if self._warm and not self._told_to_end:
            status = self._warm.run(cmd, Path(options["cwd"]), options["env"], path, lambda: self._told_to_end)
        if status is None and not self._told_to_end:
            with path.open("ab") as log:
                self._start(executable, cmd, stdout=log, stderr=subprocess.STDOUT, **options)
        elif status != 0:
            raise StageCmdFailedError(cmd, status or INTERRUPTED)

    def _told(self, record: logging.LogRecord) -> bool:
        """A filter of DVC's messages: one about a stage goes to the runner, and no further."""
        stage = getattr(self._mine, "stage", None)
        return stage is None or not report.emit("dvc", stage=stage, text=record.getMessage())

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        """A Ctrl-C, which the stages get, too, ends the run once they have answered it."""

        def end(number: int, frame: object) -> None:
            self._told_to_end = True

        before = signal.signal(signal.SIGINT, end)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class _Locks:
    """Leaves dvc.lock as one stage at a time does: what is new in it in the order of the run, whichever ended first."""

    def __init__(self, stages: list["Stage"]) -> None:
        self._planned: dict[Path, list[str]] = {}
        for stage in stages:
            if hasattr(stage.dvcfile, "_lockfile"):  # what `dvc add` tracks has a file of its own
                self._planned.setdefault(Path(stage.dvcfile._lockfile.path), []).append(stage.name)
        self._before = {place: set(self._stages(place)) for place in self._planned}

    def put_in_order(self) -> None:
        from dvc.utils.serialize import modify_yaml

        for place, planned in self._planned.items():
            new = [name for name in self._stages(place) if name not in self._before[place]]
            wanted = [name for name in planned if name in new]
            if new != wanted:
                with modify_yaml(place) as lock:
                    for name in wanted:
                        lock["stages"][name] = lock["stages"].pop(name)

    @staticmethod
    def _stages(place: Path) -> list[str]:
        text = place.read_bytes() if place.is_file() else b""
        return list((yaml.load(text, yaml.CSafeLoader) or {}).get("stages", {}))


def _alone(stage: "Stage") -> bool:
    return bool((stage.meta or {}).get("alone"))


def _begun(function: Callable[["Stage"], Any], stage: "Stage") -> Future:
    """``function`` on ``stage`` in a thread of its own: its priority is not for the next."""
    future: Future = Future()

    def work() -> None:
        try:
            future.set_result(function(stage))
        except BaseException as error:  # told where the result is asked for
            future.set_exception(error)

    threading.Thread(target=work).start()
    return future
