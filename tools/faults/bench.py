"""A finished pipeline on a disk of its own, in which things go wrong, and what has to hold afterwards."""

import contextlib
import difflib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from olivepress.core.git import git
from olivepress.core.outputs import remove
from olivepress.tools.reproduce import clone

TRACEBACK = "Traceback (most recent call last)"
SIZE = 2**30  # bytes of the disk, in memory
STAGE_SECONDS = 300  # none takes so long; a run that does hangs
# Adds to a stage's script, so that it runs again and writes what it wrote before. A number: DVC's run cache knows it
# not yet.
EDIT = "\n# a fault is tried here, the number {number}\n"
NOTES = ("notes.txt", "models/notes.txt")  # files of the user's own


class Fault(Exception):
    """What does not hold; the text says what was found."""


@dataclass
class Run:
    """A command under way in the bench's folder; its output goes to a file."""

    process: subprocess.Popen
    log: Path

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = STAGE_SECONDS) -> int:
        """Its exit status; Fault if it does not end."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise Fault(f"still running after {seconds:g} s: {self.said()[-300:]!r}") from error

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stage(self, name: str, seconds: float = 60) -> psutil.Process | None:
        """The process of a stage, once there is one; None if the run ends before."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(self.process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        words = child.cmdline()
                        started = f"stages.{name}" in words and "-m" in words
                        if (started and Path(words[0]).name.startswith("python")) or child.name() == name:
                            return child  # by a shell, or by olivepress/tools/warm_stages.py
            time.sleep(0.02)
        return None


@dataclass
class Bench:
    """``folder``: the project, on a file system that can be made small, or read-only, where root may mount one."""

    root: Path
    mounted: bool
    draw: random.Random
    image: str | None = None  # of docker/, to run in
    outs: dict[str, str] = field(default_factory=dict)  # path -> MD5, of the committed dvc.lock
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage's script, start included
    lock: bytes = b""
    began: float = 0.0  # when the case began
    edits: int = 0

    @property
    def folder(self) -> Path:
        return self.root / "disk/project"

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}

    # ---- set-up

    def fill(self, finished: Path | None) -> None:
        """Copy a finished project, or clone this one and run it; commit what came out."""
        if finished:
            # its environment is this one's, below: gigabytes, which the small disk has no room for
            shutil.copytree(finished, self.folder, symlinks=True, ignore=shutil.ignore_patterns(".venv", ".services"))
        else:
            clone(Path(__file__).parents[2], self.folder)
        venv = self.folder / ".venv"
        if not venv.exists():
            venv.mkdir()
            for name in ("bin", "lib", "pyvenv.cfg"):
                (venv / name).symlink_to(Path(sys.prefix) / name)
            (venv / ".ready").touch()
        (self.folder / ".dvc/config.local").unlink(missing_ok=True)  # the cache lies on the same disk
        for key, value in (("user.name", "faults"), ("user.email", "faults@localhost")):
            git(self.folder, "config", key, value)
        run = self.start("repro")
        if run.wait(1800):
            raise SystemExit(f"the pipeline does not run without faults:\n{run.said()[-3000:]}")
        git(self.folder, "checkout", "-q", "-B", "main")
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "-q", "--allow-empty", "-m", "finished")
        for name in NOTES:
            (self.folder / name).write_text("mine\n", encoding="utf-8")
        self.lock = (self.folder / "dvc.lock").read_bytes()
        stages = yaml.safe_load(self.lock)["stages"]
        self.outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
        for path in (self.folder / "results/cost").rglob("*.json"):
            name = path.relative_to(self.folder / "results/cost").with_suffix("").parts[0].replace("-", "_")
            self.seconds[name] = max(self.seconds.get(name, 0), json.loads(path.read_text())["seconds"] + 1)

    def stages(self) -> list[str]:
        """The stages' scripts, in the order of dvc.yaml, those that have one."""
        stages = yaml.safe_load((self.folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        names = [name.replace("-", "_") for name in stages]
        return [name for name in names if (self.folder / f"stages/{name}.py").is_file()]

    # ---- runs

    def start(self, how: str = "dvc", *arguments: str, limits: str = "") -> Run:
        """Begin `dvc repro`, `make repro` or another command, in a process group of its own as a shell begins one.

        ``limits``: a shell's commands before it, ulimit say.
        """
        commands = {
            "dvc": ["dvc", "repro"],
            "make": ["make", "--no-print-directory", "repro"],
            "repro": [sys.executable, "-m", "olivepress", "repro"],
            "container": ["docker", "run", *self._mounts()],
        }
        command = [*commands.get(how, [how]), *arguments]
        if limits:
            command = ["bash", "-c", f'{limits}; exec "$@"', "bash", *command]
        log = self.root / "output.txt"
        with log.open("wb") as output:
            # an ignored SIGINT, of a run in the background, would be inherited: a handler is not
            before = signal.signal(signal.SIGINT, signal.default_int_handler)
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            signal.signal(signal.SIGINT, before)
        return Run(process, log)

    def _mounts(self) -> list[str]:
        """What `docker run` needs to work here as the user who began it."""
        volumes = (f"{self.folder}:/repo", f"{self.folder}/.dvc/cache:/cache")
        return ["--user", f"{os.getuid()}:{os.getgid()}", *(word for one in volumes for word in ("--volume", one))]

    @contextmanager
    def edited(self, stage: str, first: str = "") -> Iterator[None]:
        """Within the block the stage's script is another, so that the stage is run again.

        ``first``: Python code that it runs before all else.
        """
        path = self.folder / f"stages/{stage}.py"
        before = path.read_bytes()
        self.edits += 1
        path.write_bytes(first.encode() + before + EDIT.format(number=self.edits).encode())
        try:
            yield
        finally:
            path.write_bytes(before)

    # ---- the disk

    def resize(self, free: int | None = None) -> None:
        """Leave so many bytes free on the disk; all of it again without a number."""
        usage = shutil.disk_usage(self.root / "disk")
        size = SIZE if free is None else usage.used + free
        subprocess.run(["mount", "-o", f"remount,size={size // 4096 * 4096}", self.root / "disk"], check=True)

    @contextmanager
    def read_only(self, path: str) -> Iterator[None]:
        """Within the block a folder of the project cannot be written, not by root either."""
        place = self.folder / path
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", place, place], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
            yield
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)

    # ---- what has to hold

    def quiet(self, seconds: float = 30) -> None:
        """Fault unless every process in the project ends by itself."""
        end = time.monotonic() + seconds
        while left := self._inside():
            if time.monotonic() > end:
                names = [" ".join(process.cmdline())[:80] for process in left]
                for process in left:
                    process.kill()
                raise Fault(f"goes on alone: {names}")
            time.sleep(0.1)

    def _inside(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(self.folder):
                    found.append(process)
        return found

    def no_traceback(self, run: Run) -> None:
        """Fault if a traceback is what the user, or a stage's log, got to see."""
        logs = [path for path in (self.folder / "logs").glob("*.log") if path.stat().st_mtime > self.began]
        for path in (run.log, *logs):
            text = path.read_text(encoding="utf-8", errors="replace")
            if TRACEBACK in text:
                raise Fault(f"{path.name}: a traceback: {text[text.index(TRACEBACK) :][:2500]!r}")

    def kept(self) -> None:
        """Fault unless every output that the user had is there, with the bytes that it had."""
        for path, md5 in self.outs.items():
            place = self.folder / path
            if not place.exists():
                raise Fault(f"{path} is gone")
            if place.is_file() and hashlib.md5(place.read_bytes(), usedforsecurity=False).hexdigest() != md5:
                raise Fault(f"{path} has other bytes")
        self.untouched()

    def untouched(self) -> None:
        """Fault unless the user's own files, and those in git, are as they were."""
        for name in NOTES:
            if not (self.folder / name).is_file():
                raise Fault(f"{name}, the user's own, is gone")

    def recovers(self) -> None:
        """Fault unless `dvc repro` gives the committed lock, every output, and nothing half-written beside them."""
        run = self.start("dvc")
        if run.wait():
            raise Fault(f"dvc repro fails afterwards: {run.said().strip()[-400:]!r}")
        if (self.folder / "dvc.lock").read_bytes() != self.lock:
            raise Fault(f"dvc repro gives another dvc.lock: {self._difference()}")
        status = git(self.folder, "status", "--porcelain", "--untracked-files=no")
        if status:
            raise Fault(f"git sees changes: {status.split()[:6]}")
        self.kept()
        halves = [path for path in self.folder.rglob(".*.partial") if ".venv" not in path.parts]
        if halves:
            raise Fault(f"half-written: {[str(path.relative_to(self.folder)) for path in halves[:3]]}")

    def _difference(self) -> str:
        before, now = (text.decode().splitlines() for text in (self.lock, (self.folder / "dvc.lock").read_bytes()))
        return " ".join(difflib.unified_diff(before, now, n=2, lineterm=""))[:600]

    def mend(self) -> None:
        """After a fault that was found: back to what was committed, for the next case."""
        for process in self._inside():
            process.kill()
        git(self.folder, "checkout", "-q", "-f", "main")
        for pattern in (".*.partial", ".*.old", ".*.tmp"):
            for path in self.folder.rglob(pattern):
                if ".venv" not in path.parts:
                    remove(path)
        for path in (self.folder / ".dvc/tmp").glob("*lock*"):
            path.unlink()
        for name in NOTES:
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text("mine\n", encoding="utf-8")
        self.start("dvc").wait()
        git(self.folder, "checkout", "-q", "-f", "main")


@contextmanager
def bench(root: Path, draw: random.Random, finished: Path | None, image: str | None = None) -> Iterator[Bench]:
    """A bench below ``root``, on a file system in memory where one can be mounted."""
    disk = root / "disk"
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        made = Bench(root, mounted, draw, image)
        made.fill(finished)
        yield made
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(disk)], check=False)
        shutil.rmtree(root, ignore_errors=True)
