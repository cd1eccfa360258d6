"""Run the measurements: each in a process of its own, what is measured already skipped, nothing past the time given."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.beside.install import install
from benchmarks.beside.steps import LLAMA_KINDS, ROOT, Settings, Step, Work, steps
from benchmarks.beside.table import NEEDS
from olivepress.core.errors import PressError
from olivepress.core.outputs import write_json

# contender -> (kind of worker, step that makes it, library)
DECODERS = {
    "ours": ("genai", "ours export", None),
    "portable": ("genai, portable", "ours export", None),
    "mixed": ("genai", "mixed export", None),
    "olive": ("genai", "olive export", None),
    "autoawq": ("genai", "autoawq export", None),
    **{kind: ("llama", f"{kind} quantize", "llama.cpp") for kind in LLAMA_KINDS},
    "openvino": ("openvino", "openvino export", "OpenVINO"),
    "float": ("pytorch", "float make", None),
}
SPEED = "speed"
SPEED_SECONDS = 240  # that are kept for it, and its limit: the measurements before it make way


@dataclass(frozen=True)
class Budget:
    """Seconds until no measurement is begun any more."""

    end: float

    def left(self) -> float:
        return self.end - time.monotonic()


def measured(folder: Path, name: str, key: dict[str, Any]) -> dict[str, Any] | None:
    """What was found of ``name`` with the settings ``key``; None if it was not, or failed."""
    with suppress(FileNotFoundError, ValueError):
        found = json.loads(file_of(folder, name).read_text(encoding="utf-8"))
        if found["settings"] == key and "error" not in found:
            return found
    return None


def file_of(folder: Path, name: str) -> Path:
    """Where the figures of a measurement lie."""
    return folder / "measured" / f"{name.replace(' ', '-')}.json"


def run_all(work: Work, budget: Budget) -> dict[str, dict[str, Any]]:
    """Every measurement by name, with ``error`` where there is none: why not."""
    libraries: dict[str, str] = {}
    todo = steps()
    for library in sorted({step.library for step in todo if step.library}):
        say(f"{library}: installing, unless it is there")
        try:
            install(library, work.library(library))
        except PressError as error:
            libraries[library] = f"not installed: {error}"
            say(f"{library}: {libraries[library]}")
    found: dict[str, dict[str, Any]] = {}
    for number, step in enumerate(todo, 1):
        key = {**work.settings.of(step.kind), **step.depends}
        done = measured(work.folder, step.name, key)
        if done is None:
            error = libraries.get(step.library or "")
            error = error or next((f"{NEEDS}{need}" for need in step.needs if "error" in found[need]), None)
            limit = min(step.limit, budget.left() - SPEED_SECONDS)
            if not error and limit < 1:
                error = "no time left"
            done = {"settings": key, **({"error": error} if error else in_process(work, step, limit))}
            write_json(file_of(work.folder, step.name), done)
        found[step.name] = done
        said = done.get("error") or f"{done['seconds']:.0f} s, {done['peak_mib']:,} MiB"
        say(f"[{number}/{len(todo) + 1}] {step.name}: {said}")
    found[SPEED] = speed(work, found, budget)
    return found


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def environment(work: Work, library: str | None) -> dict[str, str]:
    """Of a process: as many threads as all the others, and OpenVINO's packages before .venv's."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(work.settings.threads))
    path = [str((work.library("OpenVINO") / "site-packages").resolve())] if library == "OpenVINO" else []
    path.append(str(ROOT))
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    offline["HF_DATASETS_CACHE"] = str((work.folder / "datasets").resolve())  # Olive's LoRA leaves its rows there
    return {**os.environ, **threads, **offline, "PYTHONPATH": os.pathsep.join(path), "CUDA_VISIBLE_DEVICES": ""}


def in_process(work: Work, step: Step, limit: float) -> dict[str, Any]:
    """Run a step, for ``limit`` seconds at most: its figures, its seconds and its peak memory, or ``error``."""
    out = work.folder / "step.json"
    out.unlink(missing_ok=True)
    log = work.folder / "logs" / f"{step.name.replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.beside", "step", step.name, "--work", str(work.folder.resolve())]
    command += ["--out", str(out.resolve()), "--settings", json.dumps(vars(work.settings))]
    start = time.perf_counter()
    with log.open("wb") as stream:
        # a group of its own, so that what it starts ends with it
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(work, step.library), stdout=stream, stderr=stream, start_new_session=True
        )
        timer = threading.Timer(limit, os.killpg, (process.pid, 9))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, 9)
            raise
        finally:
            timer.cancel()
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode < 0:
        return {
            "error": f"ended after {seconds:.0f} s" + ("" if seconds >= limit else f" by signal {-process.returncode}")
        }
    if process.returncode:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return {"error": f"failed: {lines[-1].strip()[:300] if lines else process.returncode}"}
    figures = json.loads(out.read_text(encoding="utf-8"))
    return {**figures, "seconds": round(seconds, 1), "peak_mib": usage.ru_maxrss >> 10}


def speed(work: Work, found: dict[str, dict[str, Any]], budget: Budget) -> dict[str, Any]:
    """Decoding and prefill of all that was made, once a round each, in an order that changes."""
    settings = work.settings
    ready = {name: one for name, one in DECODERS.items() if "error" not in found[one[1]]}
    key = {**settings.of(SPEED), "cases": sorted(ready)}
    done = measured(work.folder, SPEED, key)
    if done is None:
        end = time.monotonic() + min(SPEED_SECONDS, max(budget.left(), 60))
        done = {"settings": key, **_take_turns(work, ready, end)}
        write_json(file_of(work.folder, SPEED), done)
    return done


def _take_turns(work: Work, ready: dict[str, tuple[str, str, str | None]], end: float) -> dict[str, Any]:
    """{"cases": name -> lists of figures, or "error"; "load_average": before each round}."""
    settings = work.settings
    question = json.dumps({"prompt": settings.prompt, "tokens": settings.tokens}) + "\n"
    cases: dict[str, dict[str, Any]] = {}
    workers: dict[str, subprocess.Popen[str]] = {}
    load: list[float] = []
    start = time.monotonic()
    with ExitStack() as stack:
        for name, one in ready.items():
            cases[name] = {"tokens_per_s": [], "prefill_ms": []}
            log = stack.enter_context((work.folder / "logs" / f"{name}-speed.log").open("w", encoding="utf-8"))
            workers[name] = stack.enter_context(_worker(work, name, one, log))
            if answer_of(workers[name]) is None or ask(workers[name], question) is None:  # the first warms it up
                cases[name] = {"error": f"did not start: see logs/{name}-speed.log in the work folder"}
                del workers[name]
        for number in range(settings.rounds):
            load.append(round(os.getloadavg()[0], 2))
            for name in random.Random(number).sample(sorted(workers), len(workers)):
                if time.monotonic() > end:
                    break
                answer = ask(workers[name], question)
                if answer is None:
                    cases[name] = {"error": f"ended in round {number + 1}"}
                    del workers[name]
                    continue
                for metric in ("tokens_per_s", "prefill_ms"):
                    cases[name][metric].append(answer[metric])
                cases[name]["peak_mib"] = answer["peak_mib"]
            say(f"speed: round {number + 1} of {settings.rounds}")
    return {"cases": cases, "load_average": load, "seconds": round(time.monotonic() - start, 1)}


def _worker(work: Work, name: str, one: tuple[str, str, str | None], log: IO[str]) -> "subprocess.Popen[str]":
    kind, _, library = one
    model = {"float": work.float, "portable": work.shipped("ours")}.get(name, work.shipped(name))
    command = [sys.executable, "-m", "benchmarks.beside.worker", kind, model.resolve(), str(work.settings.threads)]
    if kind == "llama":
        command.append(work.library("llama.cpp").resolve())
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment(work, library), text=True, **streams)


def ask(worker: "subprocess.Popen[str]", question: str) -> dict[str, Any] | None:
    try:
        worker.stdin.write(question)
        worker.stdin.flush()
    except BrokenPipeError:
        return None
    return answer_of(worker)


def answer_of(worker: "subprocess.Popen[str]") -> dict[str, Any] | None:
    """The next line that is JSON (libraries print, too); None if the worker ended."""
    for line in iter(worker.stdout.readline, ""):
        with suppress(ValueError):
            if isinstance(answer := json.loads(line), dict):
                return answer
    return None


def run_step(name: str, work: Work, out: Path) -> None:
    """In the process of its own: run the step and write what it found."""
    write_json(out, next(step for step in steps() if step.name == name).run(work))


def settings_of(text: str) -> Settings:
    return Settings(**json.loads(text))
