"""Decode and prefill on the CPU at batch 1: ours, raw Olive's way, and llama.cpp's Q4_K_M, interleaved in one run.

make, export and measure are run one after the other; docs/log/2026-11-25-decoding.md says how, and what llama.cpp
needs. Everything but the results goes to --work. Memory's read bandwidth and the load of the machine are taken beside
them.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from joblib import cpu_count

from benchmarks import models
from benchmarks.machine import runtime_versions
from benchmarks.models import timed
from olivepress.core.errors import PressError
from olivepress.core.machine import processor
from olivepress.core.outputs import write_json
from olivepress.export.model_builder import Target
from olivepress.runtime.genai import load_model
from olivepress.runtime.graphs import NATIVE, PORTABLE, choose
from olivepress.runtime.trust import read_genai_config

ROOT = Path(__file__).parents[1]
RANKS = (8, 64)
PRESET = "phi-3-170m"
GROUP = 128
CPU = "CPUExecutionProvider"
POLICIES = {os.SCHED_OTHER: "normal", os.SCHED_FIFO: "real-time, fifo", os.SCHED_RR: "real-time, round robin"}
# What `auto-opt` exports by default, and the same with one thing changed.
OURS = Target(CPU, "int4", "int8", "int8")
EXPORTS = {
    "ours": (GROUP, OURS, {}),
    "ours-operator": (GROUP, OURS, {"operator": True}),
    "ours-both": (GROUP, OURS, {"operator": True, "both": True}),
    "ours-cache-float32": (GROUP, OURS, {"operator": True, "cache": "float32"}),
    "ours-attention": (GROUP, OURS, {"lora_inputs": "attention"}),
    "ours-head-int4": (GROUP, replace(OURS, lm_head="int4"), {}),
    "ours-head-float": (GROUP, replace(OURS, lm_head="float"), {}),
    "ours-float32": (GROUP, replace(OURS, activations="float32"), {}),
    "ours-group-32": (32, OURS, {}),
}
ADAPTED = ("ours", "ours-operator", "ours-both")  # the exports that are measured with adapters
GRAPHS = {"ours-both": (PORTABLE, NATIVE)}  # each of a folder's graphs is a case
# Session options in genai_config.json in place of what is there; None takes the key away.
THREADS = "intra_op_num_threads"
SESSIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours-threads-unset": ("ours", {THREADS: None}),
    "ours-threads-2": ("ours", {THREADS: 2}),
    "ours-no-spinning": ("ours", {"session.intra_op.allow_spinning": "0"}),
    "base-threads-0": ("base", {THREADS: 0}),
    **{f"raw-{rank}-threads-0": (f"raw-{rank}", {THREADS: 0}) for rank in RANKS},
}
CORES = cpu_count()  # that this process may use: `taskset -c 0,1` measures a part of a bigger machine
Folder = click.Path(path_type=Path, file_okay=False)
work_option = click.option("--work", type=Folder, default=ROOT / "models/bench-cpu", help="Scratch folder.")
results_option = click.option(
    "--results", type=click.Path(path_type=Path), default=ROOT / "results/bench/decode-cpu.json", show_default=True
)
python_option = click.option(
    "--llama-python", type=click.Path(exists=True, path_type=Path), help="Python that has llama-cpp-python."
)


@click.group()
def main() -> None:
    """Measure decoding and prefill on this machine's cores."""


@main.command()
@work_option
@click.option("--preset", default=PRESET, show_default=True, help="One of tools/random-configs.")
@click.option("--layers", type=click.IntRange(1), help="Cut the model to so many layers.")
def make(work: Path, preset: str, layers: int | None) -> None:
    """A random checkpoint, float16 and int4, and adapters of rank 8 and 64."""
    if work.exists():
        raise PressError(f"{work}: is there already. Delete it, or give another --work.")
    with timed("make"):
        models.make_float(preset, work / "float", layers)
        for group in (GROUP, 32):
            models.make_int4(work / "float", work / f"int4-{group}", group)
        for rank in RANKS:
            models.make_adapter(work / "float", work / f"rank-{rank}", rank)


@main.command()
@work_option
@python_option
@click.option("--llama-source", type=Folder, help="vendor/llama.cpp of llama-cpp-python's source package.")
@click.option("--what", multiple=True, help="Of these (base, ours, rank-8.onnx_adapter, llama …); default: all.")
def export(work: Path, llama_python: Path | None, llama_source: Path | None, what: tuple[str, ...]) -> None:
    """Every model that is not there yet: the base, ours in each setting, raw Olive's, and llama.cpp's."""
    todo: dict[str, Callable[[], None]] = {
        "base": lambda: models.export_base(work / f"int4-{GROUP}", work / "base", OURS),
        **{
            name: partial(models.export_ours, work / f"int4-{group}", work / name, target, **options)
            for name, (group, target, options) in EXPORTS.items()
        },
        **{
            f"raw-{rank}": lambda rank=rank: models.export_raw(
                work / "float", work / f"rank-{rank}", work / f"raw-{rank}", CPU
            )
            for rank in RANKS
        },
        **{
            f"{name}-rank-{rank}.onnx_adapter": partial(
                models.convert_adapter, work / f"rank-{rank}", work / name, work / f"{name}-rank-{rank}.onnx_adapter"
            )
            for name in ADAPTED
            for rank in RANKS
        },
    }
    if llama_python and llama_source:
        todo["llama"] = lambda: export_llama(work, llama_python, llama_source)
    for name, run in todo.items():
        if not (work / name).exists() and (not what or name in what):
            with timed(f"export {name}"):
                run()
    for name, (source, options) in SESSIONS.items():
        if (work / source).exists():
            with_options(work / source, work / name, options)


def export_llama(work: Path, python: Path, source: Path) -> None:
    """llama/model.gguf (Q4_K_M), llama/rank-*.gguf (float16), and how many bytes a token reads of each."""
    scratch = work / "llama-scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(work / "float", scratch)
    config = scratch / "tokenizer_config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    # The converter takes a byte-level BPE for Phi-3 under this name only
    config.write_text(json.dumps({**settings, "tokenizer_class": "GPT2Tokenizer"}), encoding="utf-8")
    # It writes no empty list of merges, and llama.cpp wants one: a merge that no text reaches
    tokenizer = json.loads((scratch / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["merges"] = [
        next([word, "0"] for word in vocabulary if len(word) > 1 and f"{word}0" in vocabulary)
    ]
    (scratch / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")

    packages = [os.environ.get("PYTHONPATH", ""), str(source.resolve()), str(source.resolve() / "gguf-py")]
    with_llama = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, packages))}

    def convert(script: str, out: Path, *options: object) -> None:
        command = [sys.executable, "-m", "benchmarks.llama_convert", source, script]
        subprocess.run([*command, "--outtype", "f16", "--outfile", out, *options], check=True, env=with_llama)

    convert("convert_hf_to_gguf.py", scratch / "f16.gguf", scratch)
    for rank in RANKS:
        convert("convert_lora_to_gguf.py", scratch / f"rank-{rank}.gguf", "--base", scratch, work / f"rank-{rank}")
    code = (
        "import ctypes, llama_cpp, sys\n"
        "settings = llama_cpp.llama_model_quantize_default_params()\n"
        "settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M\n"
        "sys.exit(llama_cpp.llama_model_quantize(*(a.encode() for a in sys.argv[1:]), ctypes.byref(settings)))\n"
    )
    subprocess.run([python, "-c", code, scratch / "f16.gguf", scratch / "model.gguf"], check=True)
    files = [scratch / "model.gguf", *(scratch / f"rank-{rank}.gguf" for rank in RANKS)]
    count = [sys.executable, "-m", "benchmarks.llama_bytes", *files]
    sizes = subprocess.run(count, check=True, capture_output=True, text=True, env=with_llama).stdout
    write_json(scratch / "bytes.json", json.loads(sizes))
    (scratch / "f16.gguf").unlink()
    scratch.rename(work / "llama")


def with_options(source: Path, out: Path, options: dict[str, Any]) -> None:
    """``out`` is ``source`` by links, with other session options."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for path in source.iterdir():
        (out / path.name).symlink_to(path.resolve())
    config = json.loads((source / "genai_config.json").read_text(encoding="utf-8"))
    session = config["model"]["decoder"]["session_options"]
    session.update(options)
    config["model"]["decoder"]["session_options"] = {k: v for k, v in session.items() if v is not None}
    (out / "genai_config.json").unlink()
    write_json(out / "genai_config.json", config)


@dataclass
class Case:
    """A model with an adapter or none. ``bytes`` is what a token reads."""

    model: str
    adapter: str
    bytes: int
    start: Callable[[], Callable[[int, int], tuple[float, float, list[int]]]]

    @property
    def name(self) -> str:
        return f"{self.model}, {self.adapter}"


@main.command()
@work_option
@results_option
@python_option
@click.option("--prompt", "prompt_length", default=64, show_default=True, help="Tokens of the prompt.")
@click.option("--tokens", default=128, show_default=True, help="Tokens to decode.")
@click.option("--rounds", type=click.IntRange(3), default=5, show_default=True)
@click.option("--pause", default=0.0, show_default=True, help="Seconds between runs, to leave others some of it.")
def measure(
    work: Path, results: Path, llama_python: Path | None, prompt_length: int, tokens: int, rounds: int, pause: float
) -> None:
    """Tokens per second and milliseconds of the prompt, every case once a round, in an order that changes."""
    record: dict[str, Any] = {
        "machine": {"cpu": processor(), "cores": CORES, **runtime_versions()},
        "scheduling": {"policy": POLICIES.get(os.sched_getscheduler(0), "other"), "nice": os.nice(0), "pause_s": pause},
        "settings": {"prompt": prompt_length, "tokens": tokens, "rounds": rounds, "model": models.shape(work)},
        "bandwidth_gb_per_s": [],
        "load_average": [],
        "cases": {},
    }
    runners = {}
    for case in exported_cases(work, llama_python):
        metrics = {"bytes_per_token": case.bytes, "tokens_per_s": [], "prefill_ms": []}
        record["cases"][case.name] = metrics
        try:
            runners[case.name] = case.start()
            metrics["answer"] = runners[case.name](prompt_length, tokens)[2]  # also warms it up
        except (RuntimeError, OSError, ValueError) as error:
            runners.pop(case.name, None)
            metrics["error"] = str(error)[:500]
            click.echo(f"{case.name}: {error}", err=True)
    for number in range(rounds):
        record["load_average"].append(round(os.getloadavg()[0], 2))
        record["bandwidth_gb_per_s"].append(bandwidth())
        # shuffled: who runs after the bandwidth's gigabyte, or after llama.cpp, is a little slower
        for name in random.Random(number).sample(list(runners), len(runners)):
            time.sleep(pause)
            rate, prefill, answer = runners[name](prompt_length, tokens)
            metrics = record["cases"][name]
            metrics["tokens_per_s"].append(round(rate, 1))
            metrics["prefill_ms"].append(round(prefill * 1e3, 1))
            if metrics["answer"] != answer:
                metrics["answers_differ"] = True
        write_json(results, record)
        click.echo(f"round {number + 1} of {rounds}", err=True)
    models.compare(record)
    write_json(results, record)
    click.echo(table(record))


@main.command(name="table")
@results_option
def show(results: Path) -> None:
    """Print the results as Markdown tables."""
    click.echo(table(json.loads(results.read_text(encoding="utf-8"))))


def bandwidth() -> float:
    """GB/s of reading 1 GiB on all cores: the best of five sums over integers."""
    import numpy as np

    data = np.ones((CORES, (1 << 27) // CORES), np.int64)
    seconds = []
    with ThreadPoolExecutor(CORES) as pool:
        for _ in range(6):
            start = time.perf_counter()
            list(pool.map(np.add.reduce, data))
            seconds.append(time.perf_counter() - start)
    return round(data.nbytes / min(seconds[1:]) / 1e9, 1)


def exported_cases(work: Path, llama_python: Path | None) -> Iterator[Case]:
    """What of it has been exported: first what is compared, then one setting at a time."""
    sizes = {}
    if llama_python:
        sizes = json.loads((work / "llama/bytes.json").read_text(encoding="utf-8"))
    adapters = {"no adapter": None, **{f"rank {rank}": rank for rank in RANKS}}
    loaded: dict[str, Any] = {}
    for adapter, rank in adapters.items():
        for name in ADAPTED:
            if (work / name).exists():
                file = rank and work / f"{name}-rank-{rank}.onnx_adapter"
                for graph in GRAPHS.get(name, (None,)):
                    yield _genai(work, name, adapter, file, loaded, graph=graph)
        raw = f"raw-{rank or RANKS[0]}"
        for name in (raw, f"{raw}-threads-0"):
            if (work / name).exists():
                file = work / name / "adapter_weights.onnx_adapter" if rank else None
                yield _genai(work, name, adapter, file, loaded, name.replace(raw, "raw"))
        if llama_python:
            yield _llama(work, adapter, rank, llama_python, sizes)
    for name in ("base", *EXPORTS, *(name for name in SESSIONS if not name.startswith("raw"))):
        if name not in ADAPTED and (work / name).exists():
            yield _genai(work, name, "no adapter", None, loaded)


def _genai(
    work: Path,
    name: str,
    adapter: str,
    file: Path | None,
    loaded: dict[str, Any],
    shown: str | None = None,
    graph: str | None = None,
) -> Case:
    """A model of ONNX Runtime GenAI, or one ``graph`` of it; ``loaded`` keeps the models, by name."""
    case = f"{shown or name}{f' {graph}' if graph else ''}"

    def start() -> Callable[[int, int], tuple[float, float, list[int]]]:
        import onnxruntime_genai as og

        if case not in loaded:
            model = load_model(work / name, read_genai_config(work / name), choose(work / name, graph))
            loaded[case] = model, og.Adapters(model)
        model, adapters = loaded[case]
        if file:
            adapters.load(str(file), adapter)
        return models.runner(model, adapters, adapter if file else None)

    read = models.bytes_per_token(work / name) + (file.stat().st_size if file else 0)
    return Case(case, adapter, read, start)


def _llama(work: Path, adapter: str, rank: int | None, python: Path, sizes: dict[str, int]) -> Case:
    """llama.cpp in a process of its own, which waits without using the processor between its turns."""
    folder = work / "llama"

    def start() -> Callable[[int, int], tuple[float, float, list[int]]]:
        command = [python, ROOT / "benchmarks/llama_worker.py", folder / "model.gguf", str(CORES)]
        if rank:
            command.append(folder / f"rank-{rank}.gguf")
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not worker.stdout.readline():
            raise OSError(f"{python}: llama.cpp did not start, its status is {worker.wait()}")

        def run(prompt_length: int, tokens: int) -> tuple[float, float, list[int]]:
            question = {"prompt": models.prompt(prompt_length).tolist(), "tokens": tokens, "warm_up": models.WARM_UP}
            worker.stdin.write(json.dumps(question) + "\n")
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline())
            return answer["tokens_per_s"], answer["prefill_s"], answer["answer"]

        return run

    return Case("llama.cpp", adapter, sizes["model"] + (sizes[f"rank-{rank}"] if rank else 0), start)


def table(record: dict[str, Any]) -> str:
    """Markdown: medians, the ratios to llama.cpp and raw Olive, and the share of the memory limit."""
    rate = statistics.median(record["bandwidth_gb_per_s"])
    lines = [
        f"Memory is read at {rate} GB/s (median); load average before each round: {record['load_average']}.",
        "",
        "| model | adapter | decode tok/s | of llama.cpp | MB per token | of the memory limit | prefill ms | "
        "llama.cpp's / this |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    cases = record["cases"]
    speed = {name: statistics.median(case["tokens_per_s"]) for name, case in cases.items() if case["tokens_per_s"]}
    prefill = {name: statistics.median(case["prefill_ms"]) for name, case in cases.items() if case["prefill_ms"]}
    for name, case in cases.items():
        model, _, adapter = name.partition(", ")
        if name not in speed:
            lines.append(f"| {model} | {adapter} | fails: {' '.join(case['error'].split())[:60]} | | | | | |")
            continue
        rival = f"llama.cpp, {adapter}"
        times = f"{speed[name] / speed[rival]:.2f}" if rival in speed else ""
        sooner = f"{prefill[rival] / prefill[name]:.2f}" if rival in speed else ""
        read = case["bytes_per_token"]
        lines.append(
            f"| {model} | {adapter} | {speed[name]:.3g} | {times} | {read / 1e6:.0f} | "
            f"{speed[name] * read / rate / 1e9:.0%} | {prefill[name]:.0f} | {sooner} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
