"""One trial: a DVC experiment in a clone of the project that shares its cache.

`dvc exp run` in the project itself stashes what is edited there, even with --temp; a clone leaves it alone. DVC's run
cache is shared, so what one trial has quantized no other does again, nor does `make repro` later.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from olivepress.core.dvc import dvc
from olivepress.core.errors import PressError
from olivepress.core.git import git
from olivepress.core.outputs import read_json, remove
from olivepress.core.process import last_words
from olivepress.core.strict_yaml import Key
from olivepress.tools.reproduce import clone
from olivepress.tools.search.space import Settings

MODELS = "models/onnx"
# Of a run of the whole pipeline, and of other settings: an experiment would show them as its own.
RESULTS = ("results/quality", "results/intervals", "results/samples", "results/answers", "results/plots")
PATIENCE = 20  # seconds that an interrupted stage gets to remove what it had begun


@dataclass(frozen=True)
class Measured:
    """What a trial came to. Losses: quantized_onnx less base, nats a token of the answers, with its 95 % interval.

    ``model``: DVC's hash of the exported folder. ``seconds``: of the trial, what the cache had already is not in it.
    """

    number: int
    settings: Settings
    experiment: str
    loss: float
    low: float
    high: float
    bytes: int
    model: str
    seconds: float

    @property
    def megabytes(self) -> float:
        return self.bytes / 1e6

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class InterruptedTrial(Exception):
    """The trial was stopped: by Ctrl-C, or at the end of the time."""


class TrialError(Exception):
    """The pipeline failed with these settings; the message is the pipeline's own."""


class Locks:
    """One lock a key: what two trials both need is made by the first of them while the other waits."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def __getitem__(self, key: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())


class Processes:
    """The commands that run now, each in a session of its own, so that a Ctrl-C reaches this process alone."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self.stopped = False

    @contextmanager
    def added(self, child: subprocess.Popen) -> Iterator[None]:
        with self._guard:
            self._running.add(child)
            stopped = self.stopped
        if stopped:
            _signal(child, signal.SIGINT)
        try:
            yield
        finally:
            with self._guard:
                self._running.discard(child)

    def stop(self) -> None:
        """Interrupt what runs, as Ctrl-C would; what still runs after PATIENCE is killed. Nothing starts any more."""
        with self._guard:
            self.stopped = True
            running = list(self._running)
        for child in running:
            _signal(child, signal.SIGINT)
        for child in running:
            self._end(child)

    @staticmethod
    def _end(child: subprocess.Popen) -> None:
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            _signal(child, signal.SIGKILL)


def _signal(child: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)


class Workplace:
    """A clone below the search's folder, in which one trial after another runs."""

    def __init__(self, root: Path, folder: Path, target: str, processes: Processes) -> None:
        self.root, self.folder, self.target = root, folder, target
        self._processes = processes
        self.log = folder.with_suffix(".log")

    def make(self, ignored: Sequence[str]) -> None:
        """Clone the project as it lies there. ``ignored``: files and folders that params name and git may not know."""
        remove(self.folder)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        clone(self.root, self.folder)
        untracked = git(self.root, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
        for name in filter(None, [*untracked, *ignored]):
            source, place = self.root / name, self.folder / name
            if source.exists() and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                _copy(source, place)
        for name in RESULTS:
            remove(self.folder / name)
        dvc(self.folder, "config", "--local", "cache.dir", dvc(self.root, "cache", "dir").strip())
        for key in ("user.name", "user.email"):  # a repository's own are not cloned, and experiments are commits
            found = subprocess.run(["git", "config", key], cwd=self.root, capture_output=True, text=True, check=False)
            git(self.folder, "config", key, found.stdout.strip() or "olivepress.search@localhost")

    def set(self, section: str, values: dict[str, Any]) -> None:
        """Change a section of this clone's params.yaml."""
        self._write([((section, name), value) for name, value in values.items()])

    def fetch(self) -> None:
        """Bring the base, which every trial needs."""
        self._dvc("repro", "fetch")

    def run(
        self, number: int, settings: Settings, keys: Iterable[tuple[Key, Any]], name: str, locks: Locks
    ) -> Measured:
        """Run the stages that a search needs under ``settings``; TrialError if they fail."""
        since = time.monotonic()
        keys = list(keys)
        self._write(keys)
        # what the quantized base is a function of: two trials that share it shall not both make it
        with locks[str([(key, value) for key, value in keys if key[0] == "quantize"])]:
            self._dvc("repro", "reference-base")
        stages = (f"auto-opt@{self.target}", f"evaluate-base@{self.target}")
        self._dvc("exp", "run", "--no-hydra", "--name", name, *stages)
        measured = self._read(number, settings, name, time.monotonic() - since)
        self._keep(name)
        return measured

    def _write(self, keys: Iterable[tuple[Key, Any]]) -> None:
        from dvc.utils.serialize import modify_yaml

        with modify_yaml(str(self.folder / "params.yaml")) as params:
            for key, value in keys:
                place = params
                for part in key[:-1]:
                    place = place[part]
                place[key[-1]] = value

    def _read(self, number: int, settings: Settings, name: str, seconds: float) -> Measured:
        import yaml

        intervals = read_json(self.folder / f"results/intervals/{self.target}/general.json")
        wanted = {"metric": "loss", "step": "quantized_onnx", "minus": "base"}
        loss = next(each for each in intervals if all(each[key] == value for key, value in wanted.items()))
        size = read_json(self.folder / f"results/quality/auto-opt/{self.target}.json")["bytes"]
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text(encoding="utf-8"))
        outs = lock["stages"][f"auto-opt@{self.target}"]["outs"]
        model = next(out["md5"] for out in outs if out["path"] == f"{MODELS}/{self.target}/model")
        return Measured(
            number, settings, name, loss["value"], loss["low"], loss["high"], size, model, round(seconds, 1)
        )

    def _keep(self, name: str) -> None:
        """Hand the experiment over to the project: `dvc exp show` and `dvc exp apply` know it there."""
        refs = git(self.folder, "for-each-ref", "--format=%(refname)", "refs/exps").split()
        for ref in refs:
            if ref.rpartition("/")[2] == name:
                git(self.root, "fetch", "--quiet", "--no-write-fetch-head", self.folder.resolve(), f"+{ref}:{ref}")

    def _dvc(self, *arguments: str) -> None:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        environment |= {"DVC_NO_ANALYTICS": "1"}
        with self.log.open("ab") as log:
            begin = log.tell()
            child = subprocess.Popen(
                [sys.executable, "-m", "dvc", *arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            with self._processes.added(child):
                status = child.wait()
        if self._processes.stopped:
            raise InterruptedTrial
        if status:
            said = self.log.read_bytes()[begin:]
            raise TrialError(last_words(subprocess.CompletedProcess([], status, said, b"")))


def _copy(source: Path, place: Path) -> None:
    """A file or a folder, by hard links where the file system has them: a base may have gigabytes."""

    def link(file: str, to: str) -> None:
        try:
            os.link(file, to)
        except OSError:
            shutil.copy2(file, to)

    if source.is_dir():
        shutil.copytree(source, place, copy_function=link)
    else:
        link(str(source), str(place))


def check_repository(root: Path) -> None:
    """PressError unless DVC can make experiments here."""
    if not (root / "dvc.yaml").is_file() or not (root / ".dvc").is_dir():
        raise PressError("dvc.yaml: not there. Run this in a checkout of the project.")
    done = subprocess.run(["git", "rev-parse", "--verify", "-q", "HEAD"], cwd=root, capture_output=True, check=False)
    if done.returncode:
        raise PressError("no commit: an experiment of DVC is based on one. git add --all && git commit first.")
