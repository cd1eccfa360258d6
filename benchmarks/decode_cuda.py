"""Decode on a CUDA GPU, at batch 1 or with --rows: the base, open LoRA inputs, and raw Olive's way.

make, export and measure are run one after the other, from the repository's root; docs/log/2026-11-25-decoding.md says
in which environment. Everything but the results goes to --work, and every result is written when it is there.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks import models
from benchmarks.machine import gpus, runtime_versions
from benchmarks.models import timed
from olivepress.core.errors import PressError
from olivepress.core.outputs import write_json

ROOT = Path(__file__).parents[1]
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
RANKS = (8, 64)
GROUP = 128
# ours with ONNX Runtime's own operators and with the project's (lora_operator), each on attention alone too
OURS = {
    "ours": {},
    "ours-attention": {"lora_inputs": "attention"},
    "ours-operator": {"operator": True},
    "ours-operator-attention": {"operator": True, "lora_inputs": "attention"},
}
KINDS = ("base", *OURS, "raw-8", "raw-64")
Folder = click.Path(path_type=Path, file_okay=False)
work_option = click.option("--work", type=Folder, default=ROOT / "models/bench-cuda", help="Scratch folder.")
provider_option = click.option("--provider", type=click.Choice([CUDA, CPU]), default=CUDA, show_default=True)
results_option = click.option(
    "--results", type=click.Path(path_type=Path), default=ROOT / "results/bench/decode-cuda.json", show_default=True
)


@click.group()
def main() -> None:
    """Measure decoding on one GPU."""


@main.command()
@work_option
@click.option("--preset", default="phi-3.5-mini", show_default=True, help="One of tools/random-configs.")
@click.option("--layers", type=click.IntRange(1), help="Cut the model to so many layers.")
@click.option("--group", type=int, default=GROUP, show_default=True, help="Group size of the int4 weights.")
def make(work: Path, preset: str, layers: int | None, group: int) -> None:
    """Random checkpoints, float16 and int4, and adapters of rank 8 and 64."""
    if work.exists():
        raise PressError(f"{work}: is there already. Delete it, or give another --work.")
    with timed("make"):
        models.make_float(preset, work / "float", layers)
        models.make_int4(work / "float", work / "int4", group)
        for rank in RANKS:
            models.make_adapter(work / "float", work / f"rank-{rank}", rank)
            models.make_adapter(work / "float", work / f"rank-{rank}-attention", rank, models.ATTENTION)


@main.command()
@work_option
@provider_option
@click.option("--what", multiple=True, type=click.Choice(KINDS), help="Default: all.")
def export(work: Path, provider: str, what: tuple[str, ...]) -> None:
    """The base without LoRA inputs, ours with them and its adapters, and raw Olive's for each rank."""
    from olivepress.export.model_builder import Target

    target = Target(provider, "int4", "int8", "float16" if provider == CUDA else "int8")
    for name in what or KINDS:
        shutil.rmtree(work / name, ignore_errors=True)
        with timed(f"export {name}"):
            if name.startswith("raw"):
                rank = name.removeprefix("raw-")
                models.export_raw(work / "float", work / f"rank-{rank}", work / name, provider)
            elif name == "base":
                models.export_base(work / "int4", work / name, target)
            else:
                models.export_ours(work / "int4", work / name, target, **OURS[name])
                for adapter in adapters_of(name):
                    models.convert_adapter(work / adapter, work / name, work / f"{name}-{adapter}.onnx_adapter")


@main.command()
@work_option
@provider_option
@results_option
@click.option("--what", multiple=True, help="Folders of --work to measure; default: all that are there.")
@click.option("--prompt", "prompt_length", default=128, show_default=True, help="Tokens of the prompt.")
@click.option("--tokens", default=256, show_default=True, help="Tokens to decode.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--rows", multiple=True, type=click.IntRange(1), default=(1,), help="Rows in a batch; may be repeated.")
def measure(
    work: Path,
    provider: str,
    results: Path,
    what: tuple[str, ...],
    prompt_length: int,
    tokens: int,
    rounds: int,
    rows: tuple[int, ...],
) -> None:
    """Tokens per second, round robin over models, adapters, and CUDA graphs off and on."""
    find_libraries(provider)
    record: dict[str, Any] = {
        "machine": machine(provider),
        "settings": {"prompt": prompt_length, "tokens": tokens, "rounds": rounds, "model": models.shape(work)},
        "bandwidth_gb_per_s": bandwidth() if provider == CUDA else None,
        "cases": {},
    }
    cases = list(all_cases(work, provider, what, rows))
    for case in cases:
        record["cases"][case["name"]] = {"bytes_per_token": case["bytes"], "tokens_per_s": [], "prefill_ms": []}
    runners = load(cases, provider, record)
    for number in range(rounds + 1):
        for name, run in runners.items():
            metrics = record["cases"][name]
            rate, prefill, answer = run(prompt_length, tokens)
            if number:  # the first round warms up
                metrics["tokens_per_s"].append(round(rate, 1))
                metrics["prefill_ms"].append(round(prefill * 1e3, 2))
            if metrics.setdefault("answer", answer) != answer:
                metrics["answers_differ"] = True
            write_json(results, record)
        click.echo(f"round {number} of {rounds}", err=True)
    models.compare(record)
    write_json(results, record)
    click.echo(table(record))


@main.command(name="table")
@results_option
def show(results: Path) -> None:
    """Print the results as a Markdown table."""
    click.echo(table(json.loads(results.read_text(encoding="utf-8"))))


def adapters_of(name: str) -> list[str]:
    """The adapters that are measured with one of OURS."""
    return [f"rank-{rank}{'-attention' if 'attention' in name else ''}" for rank in RANKS]


def find_libraries(provider: str) -> None:
    """Start again with the nvidia-* wheels on LD_LIBRARY_PATH: GenAI's library finds CUDA there only."""
    if provider != CUDA or os.environ.get("OLIVEPRESS_LIBRARIES"):
        return
    folders = [str(lib) for entry in sys.path for lib in sorted(Path(entry).glob("nvidia/*/lib")) if lib.is_dir()]
    path = ":".join([*folders, os.environ.get("LD_LIBRARY_PATH", "")])
    os.execve(
        sys.executable,
        [sys.executable, *sys.orig_argv[1:]],
        {**os.environ, "LD_LIBRARY_PATH": path, "OLIVEPRESS_LIBRARIES": "1"},
    )


def machine(provider: str) -> dict[str, str]:
    """What ran: card, driver, versions. PressError where CUDA is asked for and this Python lacks it."""
    import onnxruntime
    import onnxruntime_genai

    versions = runtime_versions()
    if provider != CUDA:
        return versions
    if CUDA not in onnxruntime.get_available_providers() or not onnxruntime_genai.is_cuda_available():
        raise PressError(
            f"this Python has {', '.join(onnxruntime.get_available_providers())}, not {CUDA}. Put onnxruntime-gpu "
            "and onnxruntime-genai-cuda first on PYTHONPATH, in place of the builds for the CPU."
        )
    return versions | gpus()


def bandwidth() -> float | None:
    """GB/s of copying 1 GiB within the device, read and written. In another process: torch brings its own CUDA."""
    code = (
        "import torch, time\n"
        "a = torch.empty(1 << 30, dtype=torch.uint8, device='cuda'); b = torch.empty_like(a)\n"
        "b.copy_(a); torch.cuda.synchronize(); start = time.perf_counter()\n"
        "for _ in range(50): b.copy_(a)\n"
        "torch.cuda.synchronize(); print(100 * (1 << 30) / (time.perf_counter() - start) / 1e9)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    if run.returncode:
        click.echo(f"memory bandwidth is not measured, torch failed: {run.stderr[-200:]}", err=True)
        return None
    return round(float(run.stdout), 1)


def all_cases(
    work: Path, provider: str, what: tuple[str, ...], rows: tuple[int, ...] = (1,)
) -> Iterator[dict[str, Any]]:
    """Every model, adapter, number of rows and graph setting that there is a folder for. GenAI captures no graph for
    several rows (olivepress/runtime/genai.py)."""
    names = what or tuple(path.parent.name for path in sorted(work.glob("*/genai_config.json")))
    for name in names:
        folder = work / name
        if not (folder / "genai_config.json").is_file():
            raise PressError(f"{folder}: no exported model. Run the export command first.")
        adapters: dict[str, Path | None] = {}
        if name.startswith("raw"):
            adapters[name.replace("raw-", "rank ")] = folder / "adapter_weights.onnx_adapter"
        else:
            adapters["no adapter"] = None
        if name in OURS:
            for adapter in adapters_of(name):
                adapters[adapter.replace("-", " ")] = work / f"{name}-{adapter}.onnx_adapter"
        settings = [(count, graph) for count in rows for graph in ((False, True) if provider == CUDA else (False,))]
        for count, graph in settings:
            if count > 1 and graph:
                continue
            batch = f"batch {count}, " if count > 1 else ""
            for adapter, file in adapters.items():
                yield {
                    "name": f"{name}, {adapter}, {batch}{'graph' if graph else 'no graph'}",
                    "rows": count,
                    "folder": folder,
                    "adapter": file,
                    "graph": graph,
                    "bytes": models.bytes_per_token(folder) + (file.stat().st_size if file else 0),
                }


def load(cases: list[dict[str, Any]], provider: str, record: dict[str, Any]) -> dict[str, Callable[..., tuple]]:
    """Case name -> its runner; a model that does not load is recorded with its error and left out."""
    import onnxruntime_genai as og

    loaded: dict[tuple[Path, bool], tuple[Any, Any]] = {}
    attached: set[tuple[tuple[Path, bool], Path]] = set()
    runners = {}
    for case in cases:
        key = (case["folder"], case["graph"])
        try:
            if key not in loaded:
                config = og.Config(str(case["folder"]))
                if provider == CUDA:
                    config.set_provider_option("cuda", "enable_cuda_graph", "1" if case["graph"] else "0")
                model = og.Model(config)
                loaded[key] = model, og.Adapters(model)
            model, adapters = loaded[key]
            if case["adapter"] and (key, case["adapter"]) not in attached:
                adapters.load(str(case["adapter"]), case["adapter"].name)
                attached.add((key, case["adapter"]))
        except RuntimeError as error:
            record["cases"][case["name"]]["error"] = str(error)[:500]
            click.echo(f"{case['name']}: {error}", err=True)
            continue
        runners[case["name"]] = models.runner(model, adapters, case["adapter"] and case["adapter"].name, case["rows"])
    return runners


def table(record: dict[str, Any]) -> str:
    """Markdown: tokens per second, share of the base in the same graph setting, share of the memory limit."""
    rows = [
        "| case | tok/s | of the base | of the memory limit | prefill ms | tokens as |",
        "|---|---|---|---|---|---|",
    ]
    medians = {n: statistics.median(f["tokens_per_s"]) for n, f in record["cases"].items() if f["tokens_per_s"]}
    for name, metrics in record["cases"].items():
        if name not in medians:
            rows.append(f"| {name} | {metrics.get('error', 'not measured')[:80]} | | | | |")
            continue
        base = medians.get(f"base, no adapter, {name.split(', ', 2)[2]}")
        share = f"{medians[name] / base:.1%}" if base else ""
        rate = record["bandwidth_gb_per_s"]
        alone = rate and ", batch " not in name  # rows of a batch read the weights together
        limit = f"{medians[name] * metrics['bytes_per_token'] / rate / 1e9:.1%}" if alone else ""
        prefill = statistics.median(metrics["prefill_ms"])
        rows.append(
            f"| {name} | {medians[name]:.0f} | {share} | {limit} | {prefill:.1f} | {metrics.get('tokens_as', '')} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
