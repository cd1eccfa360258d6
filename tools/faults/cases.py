"""The table of faults. A case does its harm, lifts it again, and says by Fault what does not hold."""

import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from olivepress.core.git import git
from tools.faults.bench import Bench, Fault, Run


@dataclass(frozen=True)
class Case:
    kind: str
    stage: str  # its script; none where that does not matter
    name: str
    run: Callable[[Bench], str]  # returns what happened, in a few words

    def __str__(self) -> str:
        return f"{self.kind}: {', '.join(filter(None, (self.name, self.stage)))}"


# ---- signals

# (how it is run, who gets the signal, which)
WAYS = [
    ("dvc", "stage", signal.SIGKILL),
    ("dvc", "stage", signal.SIGTERM),
    ("dvc", "runner", signal.SIGTERM),
    ("dvc", "runner", signal.SIGKILL),
    ("dvc", "group", signal.SIGINT),
    ("make", "stage", signal.SIGKILL),
    ("make", "runner", signal.SIGTERM),
    ("make", "group", signal.SIGINT),
    ("repro", "runner", signal.SIGTERM),
    ("repro", "runner", signal.SIGKILL),
    ("repro", "group", signal.SIGHUP),
]


def signals(stage: str) -> list[Case]:
    def case(how: str, who: str, number: signal.Signals) -> Case:
        name = f"{number.name} to the {who} of {how}"
        return Case("signal", stage, name, lambda bench: _signal(bench, stage, how, who, number))

    return [case(*way) for way in WAYS]


def _signal(bench: Bench, stage: str, how: str, who: str, number: signal.Signals) -> str:
    with bench.edited(stage):
        run = bench.start(how)
        process = run.stage(stage)
        if process is None:
            raise Fault(f"the stage did not start: {run.said()[-300:]!r}")
        moment = bench.draw.uniform(0, bench.seconds.get(stage, 2) * 1.1)
        _sleep_while(process, moment)
        sent = run.process.poll() is None
        if sent:
            _send(run, process, who, number)
        status = run.wait()
        bench.quiet()
        bench.no_traceback(run)
    if (not (who == "stage" and number == signal.SIGKILL) and who != "runner") or number != signal.SIGKILL:
        bench.kept()
    else:
        bench.untouched()  # nobody was left to bring outputs back: dvc repro does
    bench.recovers()
    return f"after {moment:.1f} s, exit {status}" if sent else "had ended"


def _sleep_while(process: psutil.Process, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.is_running():
        time.sleep(0.01)


def _send(run: Run, stage: psutil.Process, who: str, number: signal.Signals) -> None:
    try:
        if who == "stage":
            stage.send_signal(number)
        elif who == "runner":
            os.kill(run.process.pid, number)
        else:
            os.killpg(run.process.pid, number)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return


def stopped(stage: str) -> list[Case]:
    return [Case("docker stop", stage, "while it runs in a container", partial(_stopped, stage=stage))]


def _stopped(bench: Bench, stage: str) -> str:
    """What ends a container: SIGTERM to its first process; the container is gone when the client returns."""
    name = f"olivepress-fault-{uuid.uuid4().hex[:12]}"
    docker = partial(subprocess.run, capture_output=True, text=True, check=False)
    with bench.edited(stage):
        run = bench.start("container", "--name", name, bench.image or "")
        try:
            # started by a shell, or by olivepress/tools/warm_stages.py
            seen = re.compile(rf"-m stages\.{stage} |^ *\d+ +{stage} ", re.MULTILINE)
            while not seen.search(docker(["docker", "top", name, "-eo", "pid,comm,args"]).stdout):
                if run.process.poll() is not None:
                    raise Fault(f"the stage did not start: {run.said()[-300:]!r}")
                time.sleep(0.05)
            moment = bench.draw.uniform(0, bench.seconds.get(stage, 2) * 1.1)
            time.sleep(moment)
            docker(["docker", "stop", "--time", "60", name])
            status = run.wait()
        finally:
            docker(["docker", "rm", "--force", "--volumes", name])
        bench.no_traceback(run)
        if status not in (0, 143):  # it had ended, or was ended and not killed
            raise Fault(f"exit {status}: {run.said()[-300:]!r}")
    bench.kept()
    bench.recovers()
    return f"after {moment:.1f} s, exit {status}"


# ---- the disk


def full(stage: str) -> list[Case]:
    return [
        Case("disk full", stage, f"room for {share:.0%} of what it writes", partial(_full, stage=stage, share=share))
        for share in (0.0, 0.3, 0.9)
    ]


def _full(bench: Bench, stage: str, share: float) -> str:
    size = max(_written(bench, stage), 2**16)
    free = int(size * share * bench.draw.uniform(0.8, 1.2)) + 3 * 4096
    with bench.edited(stage):
        bench.resize(free)
        try:
            run = bench.start("dvc")
            status = run.wait()
        finally:
            bench.resize()
        bench.quiet()
        bench.no_traceback(run)
        # DVC's own words for it are the second
        if status and not any(words in run.said() for words in ("space left", "No possible cache link types")):
            raise Fault(f"does not say that the disk is full: {run.said().strip()[-300:]!r}")
    bench.untouched()
    bench.recovers()
    return f"{free >> 10:,} KiB free, exit {status}"


def _written(bench: Bench, stage: str) -> int:
    """Bytes of the outputs of a stage."""
    import yaml

    stages = yaml.safe_load(bench.lock)["stages"]
    outs = [out for name, one in stages.items() if f"stages.{stage} " in one["cmd"] for out in one.get("outs", [])]
    return sum(out.get("size", 0) for out in outs)


def sharing() -> list[Case]:
    return [
        Case("disk full", "", "push to a full remote", _push_full),
        Case("disk full", "", "pull onto a full disk", _pull_full),
    ]


def _remote(bench: Bench) -> Path:
    remote = bench.root / "disk/remote"
    shutil.rmtree(remote, ignore_errors=True)
    remote.mkdir()
    # verified, as `make remote` sets it: `make push` refuses another
    for words in (
        ("add", "--local", "--default", "--force", "faults", str(remote)),
        ("modify", "--local", "faults", "verify", "true"),
    ):
        subprocess.run(
            ["dvc", "remote", *words], cwd=bench.folder, env=bench.environment, check=True, capture_output=True
        )
    return remote


def _push_full(bench: Bench) -> str:
    _remote(bench)
    try:
        return _full_while(bench, "push")
    finally:
        _forget_remote(bench)


def _pull_full(bench: Bench) -> str:
    _remote(bench)
    cache, aside = bench.folder / ".dvc/cache", bench.root / "cache"
    try:
        if bench.start("make", "push").wait():
            raise Fault("cannot push")
        shutil.copytree(cache, aside)
        shutil.rmtree(cache)
        return _full_while(bench, "pull")
    finally:
        bench.resize()
        if aside.is_dir():
            shutil.copytree(aside, cache, dirs_exist_ok=True)
            shutil.rmtree(aside)
        _forget_remote(bench)


def _full_while(bench: Bench, target: str) -> str:
    """Have the disk full while make's ``target`` runs, then run it again with room."""
    bench.resize(bench.draw.randrange(2**16, 2**21))
    try:
        run = bench.start("make", target)
        status = run.wait()
    finally:
        bench.resize()
    bench.no_traceback(run)
    if not status or "space" not in run.said().lower():
        raise Fault(f"exit {status}: {run.said().strip()[-300:]!r}")
    bench.kept()
    again = bench.start("make", target)
    if again.wait():
        raise Fault(f"cannot {target} afterwards: {again.said().strip()[-300:]!r}")
    bench.recovers()
    return f"{target}ed afterwards"


def _forget_remote(bench: Bench) -> None:
    (bench.folder / ".dvc/config.local").unlink(missing_ok=True)
    shutil.rmtree(bench.root / "disk/remote", ignore_errors=True)


PLACES = ("models", "results", "data/prepared", "logs", ".dvc/tmp", ".dvc/cache", ".")


def read_only(stage: str) -> list[Case]:
    return [Case("read-only", stage, place, partial(_read_only, stage=stage, place=place)) for place in PLACES]


def _read_only(bench: Bench, stage: str, place: str) -> str:
    with bench.edited(stage):
        with bench.read_only(place):
            run = bench.start("dvc")
            status = run.wait()
            bench.quiet()
        bench.no_traceback(run)
    bench.untouched()
    bench.recovers()
    return f"exit {status}"


# ---- what a process may have


HANDLES = (24, 16, 12, 10, 9, 8, 7, 6, 5)


def handles(stage: str) -> list[Case]:
    return [Case("few handles", stage, "fewer each time, until it fails", partial(_handles, stage=stage))]


def _handles(bench: Bench, stage: str) -> str:
    """The stage's process alone has so few; where it does not fail, it makes what it made before.

    By the soft limit: below a hard one the process that brings outputs back has no more handles either.
    """
    limit = "import resource as r\n\nr.setrlimit(r.RLIMIT_NOFILE, ({count}, r.getrlimit(r.RLIMIT_NOFILE)[1]))\n"
    for count in HANDLES:
        with bench.edited(stage, limit.format(count=count)):
            run = bench.start("dvc")
            status = run.wait()
            bench.quiet()
            bench.no_traceback(run)
        if status:
            break
    else:
        raise Fault(f"the stage runs with {HANDLES[-1]} handles")
    if "too many open files" not in run.said() or "ulimit -n" not in run.said():
        raise Fault(f"{count}: does not say what lacks: {run.said().strip()[-300:]!r}")
    bench.kept()
    bench.recovers()
    return f"fails with {count}"


def memory(stage: str) -> list[Case]:
    return [
        Case("little memory", stage, f"{mib:,} MiB", partial(_limited, stage=stage, limits=f"ulimit -v {mib * 1024}"))
        for mib in (300, 700, 1200, 2000)
    ]


def _limited(bench: Bench, stage: str, limits: str) -> str:
    with bench.edited(stage):
        run = bench.start("dvc", limits=limits)
        status = run.wait()
        bench.quiet()
        bench.no_traceback(run)
    bench.untouched()
    bench.recovers()
    return f"exit {status}"


# ---- what else happens


def at_once(stage: str) -> list[Case]:
    return [
        Case("two at once", stage, f"{how} beside dvc repro", partial(_at_once, stage=stage, how=how))
        for how in ("dvc", "make")
    ]


def _at_once(bench: Bench, stage: str, how: str) -> str:
    with bench.edited(stage):
        first = bench.start("dvc")
        process = first.stage(stage)
        if process is None:
            raise Fault(f"the stage did not start: {first.said()[-300:]!r}")
        log = first.log.rename(first.log.with_suffix(".first"))
        second = bench.start(how)
        status = second.wait()
        if first.wait():
            raise Fault(f"the first fails: {log.read_text()[-300:]!r}")
        bench.quiet()
        bench.no_traceback(second)
        if status == 0 and psutil.pid_exists(first.process.pid):
            raise Fault("both ran")
    bench.kept()
    bench.recovers()
    return f"the second: exit {status}"


def corrupt(stage: str) -> list[Case]:
    return [
        Case("corrupt cache", stage, "a byte of an output", partial(_corrupt, stage=stage, cut=False)),
        Case("corrupt cache", stage, "an output cut off", partial(_corrupt, stage=stage, cut=True)),
    ]


def _corrupt(bench: Bench, stage: str, *, cut: bool) -> str:
    import yaml

    stages = yaml.safe_load(bench.lock)["stages"]
    outs = [
        out for one in stages.values() if f"stages.{stage} " in one["cmd"] for out in one.get("outs", [])
        if (bench.folder / out["path"]).exists()
    ]  # fmt: skip
    out = bench.draw.choice(outs)
    objects = bench.folder / ".dvc/cache/files/md5"
    place = objects / out["md5"][:2] / out["md5"][2:]
    if out["md5"].endswith(".dir"):
        import json

        entry = bench.draw.choice(json.loads(place.read_text()))
        place = objects / entry["md5"][:2] / entry["md5"][2:]
    before = place.read_bytes()
    place.chmod(0o644)
    place.write_bytes(before[:-1] if cut else bytes([before[0] ^ 1]) + before[1:])
    place.chmod(0o444)
    path = bench.folder / out["path"]
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    try:
        run = bench.start("repro")  # DVC alone trusts its cache
        if run.wait():
            raise Fault(f"the run fails: {run.said().strip()[-400:]!r}")
        bench.no_traceback(run)
        bench.recovers()
    finally:
        place.unlink(missing_ok=True)
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(before)
        place.chmod(0o444)
    return f"of {out['path']}"


def branch(stage: str) -> list[Case]:
    return [Case("branch changed", stage, "while it runs", partial(_branch, stage=stage))]


def _branch(bench: Bench, stage: str) -> str:
    git(bench.folder, "checkout", "-q", "-B", "other")
    for name in ("params.yaml", "conf/profile/tiny.yaml"):
        path = bench.folder / name
        path.write_text(path.read_text().replace("generate_rows: 16", "generate_rows: 17"))
    git(bench.folder, "commit", "-q", "-a", "-m", "other")
    git(bench.folder, "checkout", "-q", "main")
    with bench.edited(stage):
        run = bench.start("dvc")
        process = run.stage(stage)
        if process is None:
            raise Fault(f"the stage did not start: {run.said()[-300:]!r}")
        _sleep_while(process, bench.draw.uniform(0, bench.seconds.get(stage, 2)))
        git(bench.folder, "checkout", "-q", "-f", "other")
        status = run.wait()
        bench.quiet()
        bench.no_traceback(run)
        git(bench.folder, "checkout", "-q", "-f", "main")
    bench.untouched()
    bench.recovers()
    return f"exit {status}"


def table(bench: Bench) -> list[Case]:
    """Every case that this machine can do."""
    stages = bench.stages()
    cases = [case for stage in stages for case in signals(stage)]
    if bench.image:
        cases += [case for stage in stages for case in stopped(stage)]
    if bench.mounted:
        cases += [case for stage in stages for case in full(stage)] + sharing()
        cases += [case for stage in ("prepare", "convert_adapter", "register") for case in read_only(stage)]
    for stage in stages:
        cases += [*memory(stage), *handles(stage), *corrupt(stage), *branch(stage)]
    for stage in ("prepare", "finetune", "smoke_infer", "register"):
        cases += at_once(stage)
    return cases
