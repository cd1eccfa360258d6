"""Decode and prefill behind contexts of several lengths, on a CPU: ours with either cache, and llama.cpp, in turns.

On SmolLM2 as `make bench` has made it, whose work folder this needs. Each contender is a process of its own that uses
no processor between its turns.
"""

import json
import os
import random
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from joblib import cpu_count

from benchmarks.beside.install import LLAMA
from benchmarks.beside.steps import LLAMA_KINDS, ROOT, Settings, Work, of_profile, run_stage
from benchmarks.beside.turns import answer_of, ask, environment, say
from benchmarks.instructions import build_library, with_backend, with_library
from benchmarks.machine import installed_versions
from olivepress.core.artifact import LIBRARY
from olivepress.core.errors import PressError
from olivepress.core.machine import processor
from olivepress.core.outputs import write_json
from olivepress.runtime.graphs import this_machine

OURS = {"ours": "float16", "ours, float32 cache": "float32"}  # name -> kv_cache
LLAMA_CPP = "llama.cpp"
Folder = click.Path(path_type=Path, file_okay=False)
File = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True)
class Case:
    """A contender: how `beside.worker` runs it, its model, and llama.cpp's libraries where it needs them."""

    kind: str
    model: Path
    library: Path | None = None


@click.command(context_settings={"show_default": True})
@click.option("--work", "folder", type=Folder, default=ROOT / "models/bench-beside", help="That of `make bench`.")
@click.option("--results", type=File, default=ROOT / "results/bench/context.json")
@click.option("--threads", type=click.IntRange(1), default=min(2, cpu_count()))
@click.option("--instructions", type=click.Choice(["best", "avx2"]), default="best", help="Of the processor's.")
@click.option("--context", "contexts", type=click.IntRange(1), multiple=True, default=(64, 4096), help="Tokens before.")
@click.option("--tokens", type=click.IntRange(16), default=64, help="To decode.")
@click.option("--rounds", type=click.IntRange(1), default=5)
def main(
    folder: Path,
    results: Path,
    threads: int,
    instructions: str,
    contexts: tuple[int, ...],
    tokens: int,
    rounds: int,
) -> None:
    """Measure every contender once a round, in an order that changes; print the medians and write RESULTS."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < threads:
        raise PressError(f"--threads {threads}: this process may use {len(allowed)} processors.")
    os.sched_setaffinity(0, allowed[:threads])  # of all that this starts: ours takes every core that it may use
    work = Work(folder, Settings(threads=threads))
    cases = contenders(work, instructions)
    features = this_machine().features & {"avx2", "avx512f", "avx512_vnni"}
    record: dict[str, Any] = {
        "machine": {"processor": processor(), "cpus": os.cpu_count(), "features": sorted(features)},
        "versions": installed_versions("onnxruntime", "onnxruntime-genai", "olivepress-operators") | {LLAMA_CPP: LLAMA},
        "settings": {"threads": threads, "instructions": instructions, "tokens": tokens, "rounds": rounds},
        "load_average": [],
        "contexts": {str(length): {name: {} for name in cases} for length in contexts},
    }
    with ExitStack() as stack:
        workers = {name: stack.enter_context(start(work, name, case, stack)) for name, case in cases.items()}
        for length in contexts:
            for number in range(rounds + 1):  # the first warms up
                record["load_average"].append(round(os.getloadavg()[0], 2))
                for name in random.Random(number).sample(sorted(workers), len(workers)):
                    found = ask(workers[name], json.dumps({"prompt": length, "tokens": tokens}) + "\n")
                    if found is None:
                        raise PressError(f"{name} ended: see logs/{name}-context.log in {folder}.")
                    if number:
                        for metric, value in found.items():
                            record["contexts"][str(length)][name].setdefault(metric, []).append(value)
                say(f"context of {length:,} tokens: round {number} of {rounds}")
                write_json(results, record)
    click.echo(table(record))


def contenders(work: Work, instructions: str) -> dict[str, Case]:
    """What is measured, by name; ours is exported with the operators that are installed, where that was not done."""
    needed = [work.checkpoint("ours"), *map(work.shipped, LLAMA_KINDS), work.library(LLAMA_CPP)]
    missing = [str(path) for path in needed if not path.exists()]
    if missing:
        raise PressError(f"{missing[0]}: not there. `make bench` makes it, or give its work folder (--work).")
    made = work.folder / "context" / version("olivepress-operators")
    for name, cache in OURS.items():
        if not (made / name).exists():
            say(f"{name}: exporting")
            target = {**of_profile("targets", "cpu-int4"), "kv_cache": cache}
            run_stage("auto_opt", target, model=work.checkpoint("ours"), out=made / name)
    llama = work.library(LLAMA_CPP)
    if instructions == "best":
        cases = {name: Case("genai", made / name) for name in OURS}
        cases["portable"] = Case("genai, portable", made / next(iter(OURS)))
    else:  # without a float32 cache: its attention is ONNX Runtime's, which takes what the processor has
        held, name = made / instructions, next(iter(OURS))
        held.mkdir(exist_ok=True)
        if not (held / LIBRARY).exists():
            say(f"{LIBRARY} for {instructions}: building")
            build_library(held / LIBRARY)
        with_library(made / name, held / LIBRARY, held / name)
        with_backend(llama, held / LLAMA_CPP)
        cases, llama = {name: Case("genai", held / name)}, held / LLAMA_CPP
    return {**cases, **{kind: Case("llama", work.shipped(kind), llama) for kind in LLAMA_KINDS}}


def start(work: Work, name: str, case: Case, stack: ExitStack) -> "subprocess.Popen[str]":
    """The contender's process, ready to be asked; PressError if it does not start."""
    log = work.folder / "logs" / f"{name}-context.log"
    log.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.beside.worker", case.kind, case.model.resolve(), work.settings.threads]
    command += [case.library.resolve()] if case.library else []
    worker = subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        env=environment(work, None),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stack.enter_context(log.open("w", encoding="utf-8")),
    )
    if answer_of(worker) is None:
        raise PressError(f"{name} does not start: see {log}.")
    return worker


def table(record: dict[str, Any]) -> str:
    """Markdown: medians of tokens a second and of a prompt's seconds, by context."""
    contexts = record["contexts"]
    titles = [f"{int(length):,}: {what}" for length in contexts for what in ("tok/s", "prefill, s")]
    lines = ["| | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
    for name in next(iter(contexts.values())):
        cells = []
        for cases in contexts.values():
            cells.append(f"{statistics.median(cases[name]['tokens_per_s']):.1f}")
            cells.append(f"{statistics.median(cases[name]['prefill_ms']) / 1e3:.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
