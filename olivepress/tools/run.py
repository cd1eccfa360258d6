"""olivepress repro: the pipeline, with a line a stage.

`dvc repro` does the work, as a child in a session of its own. DVC's lines say which stage it is at, the stages' events
(core/report.py) how far it is and why it failed; what else is printed goes to the stage's log. Where stages run side by
side (side_by_side.py) DVC's lines come as events, too, which name the stage.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import click

from olivepress.core import dvc_rwlock
from olivepress.core import report as events
from olivepress.core.cached import broken_objects
from olivepress.core.errors import PressError
from olivepress.release.baseline import note_release
from olivepress.results.reader import read
from olivepress.results.stale import stale_stages
from olivepress.tools import profile, report, show
from olivepress.tools.doctor.command import unfit
from olivepress.tools.dvc_start import STAGES
from olivepress.tools.interrupted import Before
from olivepress.tools.screen import Screen, duration, screen

# DVC 3.67's own lines; tests/commands/test_run.py holds them to it.
SKIPPED = re.compile(r"Stage '(.+)' didn't change, skipping$")
CACHED = re.compile(r"Stage '(.+)' is cached - skipping run, checking out outputs$")
RUNNING = re.compile(r"Running stage '(.+)':$")
SAVED = re.compile(r"(?:Updating|Generating) lock file '.+'$")
FAILED = re.compile(
    r"(?:ERROR: failed to reproduce '[^']+': |WARNING: (?=failed to run: |output '.+' does not exist))(.+)$"
)
ALL_FAILED = re.compile(r"ERROR: failed to reproduce (?:stages: )?('[^:]*')$")
NO_LINKS = "No possible cache link types"  # what DVC says of a disk that it cannot write to
LOOKED_AT = re.compile(rf"(\d+) {STAGES}$")
EXITED = re.compile(r"exited with (-?\d+)$")
MEMORY = ", as the system does where memory runs out"
CHATTER = re.compile(
    r"(?:> |To track the changes with git|To enable auto staging|\t(?:git add|dvc config) |Use `dvc push`"
    r"|Data and pipelines are up to date|ERROR: interrupted by the user|\s*$)"
)
# With these DVC asks, only prints, or says nothing: then its own words are what one wants.
AS_DVC_PRINTS = {"--dry", "-i", "--interactive", "-q", "--quiet", "-v", "--verbose", "-h"}
INTERRUPT = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}  # -> exit status, as a shell has it
# Every stage is a process of its own: without bytecode each would compile torch and transformers anew.
BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}


@dataclass
class Outcome:
    """What a run did: seconds of the stages that ran, the others by what spared them, why stages failed."""

    ran: dict[str, float] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0  # of the whole
    status: int = 0

    @property
    def idle(self) -> bool:
        """Whether all that it looked at was as it had been."""
        return not (self.ran or self.cached or self.failed or self.status)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--profile", "profile_name", help="Of conf/profile; without it, the one chosen before.")
@click.option(
    "--jobs", type=click.IntRange(1), help="Stages at a time; without it as many as there is room for. 1: as plain DVC."
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(profile_name: str | None, jobs: int | None, arguments: tuple[str, ...]) -> None:
    """Run the pipeline: what changed, and nothing else. ARGUMENTS (options, stages) are those of `dvc repro`."""
    root = Path.cwd()
    prepare(root, profile_name)
    if AS_DVC_PRINTS & set(arguments):
        os.execv(sys.executable, [*DVC, "repro", *arguments])
    with screen() as shown:
        outcome = repro(arguments, shown, jobs or 0)
    conclude(root, outcome, whole=not arguments)
    sys.exit(outcome.status)


DVC = [sys.executable, "-m", "olivepress.tools.dvc_start"]


def prepare(root: Path, profile_name: str | None) -> None:
    """Compose the params, look at the machine with their eyes, note the last release for the gates.

    PressError with all that is in the way.
    """
    changed = profile.refresh(root, profile_name)
    if changed:
        click.echo(changed)
    problems = unfit(root)
    if problems:
        raise PressError("this machine is not fit for the profile:\n" + "\n".join(f"  {line}" for line in problems))
    _drop_broken(root)
    note_release(root)


def _drop_broken(root: Path) -> None:
    """Delete what the cache has of missing outputs and is broken: DVC then makes or fetches it again."""
    from dvc.config import Config

    cache = Path(Config(dvc_dir=str(root / ".dvc"))["cache"].get("dir") or root / ".dvc/cache")
    for path in dict.fromkeys(broken_objects(root, cache)):
        click.echo(f"{path}: broken (its bytes are not those of its name): deleted, to be made again")
        path.unlink()


def conclude(root: Path, outcome: Outcome, *, whole: bool = False) -> None:
    """The summary and the page, where there is something to sum up: the run came to its end, or to a gate.

    ``whole``: it looked at all stages. If it then found nothing to do, it has just seen that no result is stale.
    """
    if outcome.status and not any(stage.startswith("gate@") for stage in outcome.failed):
        return
    did = {
        **dict.fromkeys(outcome.ran, "ran"),
        **dict.fromkeys(outcome.cached, "from the cache"),
        **dict.fromkeys(outcome.unchanged, "unchanged"),
        **dict.fromkeys(outcome.failed, "failed"),
    }
    counts = f"{len(outcome.ran)} ran, {len(outcome.cached)} from the cache, {len(outcome.unchanged)} unchanged"
    counts += f", {len(outcome.failed)} failed" if outcome.failed else ""
    click.echo(f"\nStages: {counts}, {duration(outcome.seconds)} in all")
    results = read(root, set() if whole and outcome.idle else stale_stages(root))
    click.echo("\n" + "\n".join(show.summary(results, did)))
    try:
        report.write(results, root / report.PAGE)
        click.echo(f"\nThe same as a page, with curves and intervals: {report.PAGE}")
    except PressError as error:  # the run is what it is without its page
        click.echo(f"\nNo page of it: {error.message}")


def repro(arguments: Sequence[str], shown: Screen, jobs: int = 1) -> Outcome:
    """Run `dvc repro` to its end and show it.

    ``jobs``: how many stages run at a time; 0: as many as there is room for.
    """
    since = time.monotonic()
    if said := dvc_rwlock.mended():
        shown.say(said)
    before = Before.now()
    stages = Stages(shown, side_by_side=jobs != 1)
    queue: SimpleQueue = SimpleQueue()
    with _events(queue) as place:
        child = subprocess.Popen(
            [*DVC, *([] if jobs == 1 else ["--jobs", str(jobs)]), "repro", *arguments],
            env={**os.environ, **BYTECODE, "PATH": _own_path(), events.EVENTS: str(place)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C goes to this process alone, which passes it on
        )
        with _interrupts(child) as signals:
            stages.signals = signals
            _in_thread(_forward_lines, child.stdout, queue)
            stages.show(queue)
            status = child.wait()
            while signals and _lives(child.pid):
                time.sleep(0.1)
            left = before.put_right() if status else []
    queue.put(None)
    stages.show(queue)  # what came through the FIFO meanwhile
    stages.close()
    for line in left:
        shown.say(line)
    stages.outcome.seconds = time.monotonic() - since
    if signals:
        stages.outcome.status = INTERRUPT[signals[0]]
    else:
        stages.outcome.status = status if status >= 0 else 128 - status
    return stages.outcome


def _own_path() -> str:
    """PATH with this environment first: dvc.yaml's commands say `python`, whether it is active or not."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


@contextmanager
def _events(queue: SimpleQueue) -> Iterator[Path]:
    """A FIFO that stages write events to; they come out of the queue."""
    with tempfile.TemporaryDirectory(prefix="olivepress-") as folder:
        place = Path(folder) / "events"
        os.mkfifo(place, 0o600)
        reader = os.open(place, os.O_RDONLY | os.O_NONBLOCK)  # else it would wait for somebody who writes
        os.set_blocking(reader, True)
        writer = os.open(place, os.O_WRONLY)  # so that the FIFO does not end between two stages
        thread = _in_thread(_forward_events, reader, queue)
        try:
            yield place
        finally:
            os.close(writer)
            thread.join()


def _in_thread(function: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def _forward_events(reader: int, queue: SimpleQueue) -> None:
    with os.fdopen(reader, "rb") as fifo:
        for event in events.read(fifo):
            queue.put(event)


def _forward_lines(stream: IO[bytes], queue: SimpleQueue) -> None:
    for line in stream:
        queue.put(line.decode(errors="replace").rstrip("\r\n"))
    queue.put(None)


@contextmanager
def _interrupts(child: subprocess.Popen) -> Iterator[list[int]]:
    """SIGTERM, SIGHUP and Ctrl-C reach DVC and its stage as SIGINT; yields the list of what came.

    DVC then waits for the stage, which removes its partial output, and lets go of its locks; on SIGTERM it would die
    at once and leave both behind.
    """
    came: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        came.append(number)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)

    before = {number: signal.signal(number, pass_on) for number in INTERRUPT}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lives(group: int) -> bool:
    """Whether a process of the group is left."""
    with suppress(ChildProcessError):
        os.waitpid(-group, os.WNOHANG)  # as process 1 of a container, one gets the orphans that have ended, too
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Stages:
    """Follows DVC's lines and the stages' events, shows them and keeps what came of each stage."""

    def __init__(self, shown: Screen, *, side_by_side: bool = False) -> None:
        self.outcome = Outcome()
        self._side_by_side = side_by_side
        self.signals: Sequence[int] = ()  # that came; what fails afterwards fails for them
        self._screen = shown
        self._number = self._total = 0  # of the stages that DVC looks at
        self._running: dict[str, tuple[str, float]] = {}  # stage -> its place and name, when it began
        self._errors: dict[str, str] = {}
        self._logging: set[str] = set()  # stages that have begun their log themselves

    def show(self, queue: SimpleQueue) -> None:
        """Take lines (str) and events (dict) until None."""
        for item in iter(queue.get, None):
            if isinstance(item, str):
                self._line(item)
            else:
                self._event(item)

    def close(self) -> None:
        """DVC has ended: so have the stages that it ran."""
        for stage in list(self._running):
            if self.signals:
                self._interrupt(stage)
            else:
                self._done(stage)
        for stage, why in self.outcome.failed.items():
            self._explain(stage, why)

    def _line(self, text: str) -> None:
        """One of DVC's, or of a stage's where one runs at a time: of that stage, if it names none.

        Side by side it is of none: what is said of a stage is an event.
        """
        stage = "" if self._side_by_side else next(iter(self._running), "")
        if self._begins(text, stage):
            return
        if match := LOOKED_AT.match(text):
            self._total = int(match[1])
            return
        if SAVED.match(text):
            self._done(stage)
        elif (match := FAILED.match(text)) and stage:
            self._fail(stage, match[1])
        elif match := ALL_FAILED.match(text):
            self._did_fail(re.findall(r"'([^']+)'", match[1]))
        elif stage:
            self._log(stage, text)
        elif not CHATTER.match(text) and not (self._side_by_side and FAILED.match(text)):
            self._screen.say(text)

    def _begins(self, text: str, before: str = "") -> bool:
        """Whether DVC says that it comes to a stage, which is shown; ``before``: the one that has ended then."""
        found = next(filter(None, (words.match(text) for words in (SKIPPED, CACHED, RUNNING))), None)
        if found is None:
            return False
        self._done(before)
        stage = found[1]
        if found.re is SKIPPED:
            self._pass_over(stage, self.outcome.unchanged, "unchanged")
        elif found.re is CACHED:
            self._pass_over(stage, self.outcome.cached, "from the cache")
        else:
            head = self._next(stage)
            self._running[stage] = head, time.monotonic()
            self._screen.start(head)
        return True

    def _event(self, event: dict[str, Any]) -> None:
        stage, kind = event["stage"], event["kind"]
        if kind == "start":
            self._logging.add(stage)
        elif kind == "error":
            self._errors[stage] = str(event["text"])
        elif kind == "stages":
            self._total = int(event["text"])
        elif kind == "note":
            self._screen.say(f"  {event['text']}")
        elif kind == "progress" and stage in self._running:
            self._screen.progress(self._running[stage][0], event["label"], event["done"], event["total"])
        elif kind == "dvc":
            self._logging.add(stage)  # side by side DVC begins it
            if not self._begins(event["text"]) and not SAVED.match(event["text"]):
                self._log(stage, event["text"])
        elif kind == "ended":
            self._done(stage)
        elif kind == "failed":
            self._fail(stage, event["text"])

    def _next(self, stage: str) -> str:
        self._number += 1
        return f"[{self._number}/{self._total}] {readable(stage)}"

    def _pass_over(self, stage: str, spared: list[str], how: str) -> None:
        spared.append(stage)
        self._screen.end(self._next(stage), how, "dim")

    def _done(self, stage: str) -> None:
        if stage in self._running:
            head, since = self._running.pop(stage)
            seconds = time.monotonic() - since
            self.outcome.ran[stage] = seconds
            self._screen.end(head, f"done in {duration(seconds)}", "green")

    def _fail(self, stage: str, why: str) -> None:
        if self.signals:
            self._interrupt(stage)
            return
        head, since = self._running.pop(stage, None) or (self._next(stage), time.monotonic())
        self._screen.end(head, f"failed after {duration(time.monotonic() - since)}", "bold red")
        self.outcome.failed[stage] = why

    def _interrupt(self, stage: str) -> None:
        if stage in self._running:
            head, since = self._running.pop(stage)
            self._screen.end(head, f"interrupted after {duration(time.monotonic() - since)}", "bold red")

    def _did_fail(self, stages: list[str]) -> None:
        """DVC's last word after --keep-going: stages that ran, but whose outputs it did not accept, are among them."""
        if self.signals:
            return
        for stage in stages:
            self.outcome.ran.pop(stage, None)
            self.outcome.failed.setdefault(stage, "DVC did not accept its outputs")

    def _explain(self, stage: str, why: str) -> None:
        log = events.log_path(stage)
        number = _signal(why)
        if number:
            why = f"killed by signal {number}" + MEMORY * (number == signal.SIGKILL)
        if NO_LINKS in why:
            why += " The cache or the outputs cannot be written: is the disk full, or read-only?"
        self._screen.say(f"\n{readable(stage)}: {self._errors.get(stage, why)}")
        if log.is_file() and log.stat().st_size:
            self._screen.say(f"Its log: {log}")

    def _log(self, stage: str, text: str) -> None:
        """A line of a stage that keeps no log itself, or not yet, goes to the log, too."""
        if CHATTER.match(text):
            return
        path = events.log_path(stage)
        path.parent.mkdir(exist_ok=True)
        with path.open("a" if stage in self._logging else "w", encoding="utf-8") as log:
            print(text, file=log)
        self._logging.add(stage)


def _signal(why: str) -> int:
    """The signal that ended a stage, or 0: a shell that makes way for the command (bash) leaves DVC -9 to see.

    One that waits for it (dash) says 128 + 9.
    """
    exited = EXITED.search(why)
    status = int(exited[1]) if exited else 0
    return -status if status < 0 else max(status - 128, 0)


def readable(stage: str) -> str:
    """finetune@travel as people say it."""
    return stage.replace("@", " ")
