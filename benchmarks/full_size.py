"""The full-size measurements, on any machine with a GPU: python -m benchmarks.full_size --help

make-model, then awq, lora and export in any order and as often as wanted, then table. Every run is a process of its own
and leaves a JSON file in --results, so that a broken series keeps what it has. `--upstream` measures AutoAWQ and the
ONNX Runtime GenAI builder as they come, in the same way. Needs no network.
"""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.machine import gpus, installed_versions
from olivepress.core.machine import processor

PACKAGES = ("torch", "transformers", "autoawq", "peft", "olive-ai", "onnxruntime", "onnxruntime-genai", "accelerate")
DEVICES = click.Choice(["cuda", "cpu"])

in_folder = click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("models/full-size"), show_default=True,
    help="Where the models lie: base, quantized, onnx.",
)  # fmt: skip
in_results = click.option(
    "--results", type=click.Path(path_type=Path), default=Path("results/full-size"), show_default=True,
    help="Where the JSON files go.",
)  # fmt: skip
runs_option = click.option("--runs", type=click.IntRange(1), default=1, show_default=True, help="How often.")


@click.group()
def main() -> None:
    """Measure the pipeline's heavy steps at full size."""


@main.command("make-model")
@click.option("--preset", default="phi-3.5-mini", show_default=True, help="One of tools/random-configs.")
@click.option("--layers", type=click.IntRange(1), help="Fewer layers, for a quicker comparison.")
@click.option("--seed", type=int, default=0, show_default=True)
@in_folder
@in_results
def make_model(preset: str, layers: int | None, seed: int, folder: Path, results: Path) -> None:
    """Write a random checkpoint to FOLDER/base."""
    base = folder / "base"
    shutil.rmtree(base, ignore_errors=True)
    start = time.perf_counter()
    command = [sys.executable, "-m", "tools.make_random", "--preset", preset, "--out", str(base)]
    command += ["--seed", str(seed), *(["--layers", str(layers)] if layers else [])]
    subprocess.run(command, check=True)
    metrics = {"seconds": round(time.perf_counter() - start, 2), "preset": preset, "layers": layer_count(base)}
    save(results, "make-model", {**metrics, "bytes": weight_bytes(base)})


@main.command()
@click.option("--upstream", is_flag=True, help="AutoAWQ's own quantizer.")
@click.option("--samples", type=click.IntRange(1), default=128, show_default=True)
@click.option("--sequence-length", type=click.IntRange(16), default=512, show_default=True)
@click.option("--group-size", type=click.Choice(["16", "32", "64", "128"]), default="128", show_default=True)
@click.option("--layers", type=click.IntRange(1), help="Quantize the first so many layers only.")
@click.option("--device", type=DEVICES, default="cuda", show_default=True)
@runs_option
@in_folder
@in_results
def awq(runs: int, folder: Path, results: Path, **settings: Any) -> None:
    """Quantize FOLDER/base to FOLDER/quantized (with --layers or --upstream: to a folder that is deleted)."""
    for _ in range(runs):
        in_process("awq", settings, folder, results)


@main.command()
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=4, show_default=True)
@click.option("--sequence-length", type=click.IntRange(16), default=1024, show_default=True)
@click.option("--rank", type=click.IntRange(1), default=64, show_default=True)
@click.option("--gradient-checkpointing/--no-gradient-checkpointing", default=False, show_default=True)
@click.option("--limit-gib", type=float, help="Refuse to take more GPU memory than this: stands for a smaller card.")
@click.option("--device", type=DEVICES, default="cuda", show_default=True)
@runs_option
@in_folder
@in_results
def lora(runs: int, folder: Path, results: Path, **settings: Any) -> None:
    """Train an adapter on FOLDER/quantized, full rows of random text."""
    for _ in range(runs):
        in_process("lora", settings, folder, results)


@main.command()
@click.option("--upstream", is_flag=True, help="The builder's own repacking.")
@click.option(
    "--provider", default="CUDAExecutionProvider", show_default=True,
    type=click.Choice(["CUDAExecutionProvider", "CPUExecutionProvider"]),
)  # fmt: skip
@click.option("--lm-head", default="int8", show_default=True, help="int4, int8 or float.")
@runs_option
@in_folder
@in_results
def export(runs: int, folder: Path, results: Path, **settings: Any) -> None:
    """Export FOLDER/quantized by auto-opt's builder to FOLDER/onnx (with --upstream: to a folder that is deleted)."""
    for _ in range(runs):
        in_process("export", settings, folder, results)


@main.command(hidden=True)
@click.argument("part")
@click.argument("settings")
@in_folder
@in_results
def worker(part: str, settings: str, folder: Path, results: Path) -> None:
    """One measurement."""
    values = json.loads(settings)
    metrics = PARTS[part](folder, values)
    save(results, part, {"settings": values, **metrics})


def in_process(part: str, settings: dict[str, Any], folder: Path, results: Path) -> None:
    """Run one measurement in a process of its own, so that its peaks are its own."""
    command = [sys.executable, "-m", "benchmarks.full_size", "worker", part, json.dumps(settings)]
    command += ["--folder", str(folder), "--results", str(results)]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise click.ClickException(f"{part} {settings} ended with status {done.returncode}")


def measure_awq(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Whole time, that of AutoAWQ's quantize() alone, and the hash of the checkpoint."""
    import random

    if settings["device"] == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    from olivepress.modeling.autoawq import import_autoawq
    from olivepress.quantize.awq import quantize_awq

    import_autoawq()
    from awq.models.base import BaseAWQForCausalLM

    phase: dict[str, float] = {}
    time_method(BaseAWQForCausalLM, "quantize", phase, "quantize_seconds")
    base = folder / "base"
    with FirstLayers(base, settings["layers"]) as source:
        vocabulary = json.loads((source / "config.json").read_text())["vocab_size"]
        draw = random.Random(0)
        blocks = [
            [draw.randrange(vocabulary) for _ in range(settings["sequence_length"])] for _ in range(settings["samples"])
        ]
        keep = not settings["layers"] and not settings["upstream"]
        out = folder / ("quantized" if keep else "quantized.scratch")
        shutil.rmtree(out, ignore_errors=True)
        start = time.perf_counter()
        quantize_awq(
            source,
            out,
            blocks=blocks,
            group_size=int(settings["group_size"]),
            zero_point=True,
            device=settings["device"],
            trust_remote_code=False,
            upstream=settings["upstream"],
        )
        metrics = {"seconds": round(time.perf_counter() - start, 2), **phase}
        metrics |= {"layers": layer_count(source), "bytes": weight_bytes(out), **gpu_peak(torch)}
    metrics["sha256"] = digest(out, "*.safetensors")
    if not keep:
        shutil.rmtree(out)
    return metrics


def measure_lora(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Whole time with loading, the Trainer's own, and the peak."""
    import random
    import string

    import torch
    import transformers
    from olive.passes.pytorch.lora import LoRA  # noqa: F401 (seconds that are not to be measured)

    from olivepress.finetune.lora import LoraSettings, finetune

    phase: dict[str, float] = {}
    time_method(transformers.Trainer, "train", phase, "train_seconds")
    cuda = settings["device"] == "cuda"
    if cuda and settings["limit_gib"]:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, settings["limit_gib"] * 2**30 / total))
    draw = random.Random(0)
    # a token has at most a dozen bytes, so every row is cut to its full length
    rows = ["".join(draw.choices(string.printable, k=12 * settings["sequence_length"])) for _ in range(32)]
    out = folder / "adapter.scratch"
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    log = finetune(
        folder / "quantized",
        rows,
        rows[:1],
        out,
        LoraSettings(
            rank=settings["rank"],
            alpha=16,
            dropout=0.05,
            target_modules="default",
            steps=settings["steps"],
            batch_size=settings["batch_size"],
            learning_rate=2e-4,
            sequence_length=settings["sequence_length"],
            eval_steps=settings["steps"],
            gradient_checkpointing=settings["gradient_checkpointing"],
            seed=0,
            dtype="bfloat16" if cuda else "float32",
            device=settings["device"],
            processes=1,
            parallel="none",
        ),
    )
    metrics = {"seconds": round(time.perf_counter() - start, 2), "layers": layer_count(folder / "quantized")}
    losses = [entry["loss"] for entry in log if "loss" in entry]
    metrics |= {**phase, "first_loss": losses[0], "last_loss": losses[-1]}
    metrics |= {"sha256": digest(out, "*.safetensors"), **gpu_peak(torch)}
    shutil.rmtree(out)
    return metrics


def measure_export(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Time of the builder, and the hash of the graph and its data."""
    from olive.passes.onnx.model_builder import ModelBuilder  # noqa: F401 (seconds that are not to be measured)
    from onnxruntime_genai.models import builder

    from olivepress.export.model_builder import Target, export

    phase: dict[str, float] = {}
    time_method(builder, "create_model", phase, "builder_seconds")
    provider = settings["provider"]
    out = folder / ("onnx.scratch" if settings["upstream"] else f"onnx-{provider.removesuffix('ExecutionProvider')}")
    shutil.rmtree(out, ignore_errors=True)
    activations = "int8" if provider == "CPUExecutionProvider" else "float16"
    start = time.perf_counter()
    export(
        folder / "quantized",
        out,
        Target(provider, "int4", settings["lm_head"], activations),
        upstream=settings["upstream"],
    )
    metrics = {"seconds": round(time.perf_counter() - start, 2), **phase, "layers": layer_count(folder / "quantized")}
    metrics |= {"bytes": sum(path.stat().st_size for path in out.iterdir()), "sha256": digest(out, "model.onnx*")}
    if settings["upstream"]:
        shutil.rmtree(out)
    return metrics


PARTS: dict[str, Callable[[Path, dict[str, Any]], dict[str, Any]]] = {
    "awq": measure_awq,
    "lora": measure_lora,
    "export": measure_export,
}


@main.command()
@in_results
def table(results: Path) -> None:
    """Print what lies in --results as Markdown: medians, and whether the bytes agree."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    if not records:
        raise click.ClickException(f"{results}: no *.json: run a measurement first")
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in records:
        groups.setdefault(describe(entry), []).append(entry)
    click.echo("| measurement | runs | seconds, median | all | GPU peak, GiB | host peak, GiB | SHA-256 |")
    click.echo("|---|---|---|---|---|---|---|")
    for name, entries in groups.items():
        # the pure step, where the whole holds loading and saving as well
        steps = ("quantize_seconds", "train_seconds", "builder_seconds", "seconds")
        seconds = [next(entry[key] for key in steps if key in entry) for entry in entries]
        whole = [entry["seconds"] for entry in entries]
        hashes = {entry["sha256"][:12] for entry in entries if "sha256" in entry}
        peaks = [max(entry.get(key, 0) for entry in entries) for key in ("gpu_reserved_gib", "host_peak_gib")]
        click.echo(
            f"| {name} | {len(entries)} | {median(seconds):.1f} (with loading and saving {median(whole):.1f}) "
            f"| {', '.join(f'{value:.1f}' for value in seconds)} | {peaks[0] or '—'} | {peaks[1]} "
            f"| {', '.join(sorted(hashes)) or '—'} |"
        )
    click.echo()
    for machine in sorted({json.dumps(entry["machine"], sort_keys=True) for entry in records}):
        values = json.loads(machine)
        click.echo("Machine: " + ", ".join(f"{key} {value}" for key, value in values.items()))


def describe(entry: dict[str, Any]) -> str:
    """A row's name: part and the settings that matter."""
    settings = entry.get("settings", {})
    words = [entry["part"], f"{entry['layers']} layers"]
    for key, value in sorted(settings.items()):
        if key == "upstream":
            words.append("upstream" if value else "ours")
        elif value not in (None, False) and key != "layers":
            words.append(f"{key.replace('_', ' ')} {value}")
    return ", ".join(words)


class FirstLayers:
    """A folder with the checkpoint's first ``layers`` layers: links to its files beside a changed config.json."""

    def __init__(self, base: Path, layers: int | None) -> None:
        self.base, self.layers = base, layers
        self.folder = base.parent / "base.cut"

    def __enter__(self) -> Path:
        if not self.layers:
            return self.base
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for path in self.base.iterdir():
            if path.name != "config.json":
                (self.folder / path.name).symlink_to(path.resolve())
        config = json.loads((self.base / "config.json").read_text())
        (self.folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": self.layers}))
        return self.folder

    def __exit__(self, *_: object) -> None:
        if self.layers:
            shutil.rmtree(self.folder)


def time_method(owner: Any, name: str, phase: dict[str, float], key: str) -> None:
    """Have every call of ``owner.name`` leave its seconds in ``phase[key]``."""
    original = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = original(*args, **kwargs)
        phase[key] = round(time.perf_counter() - start, 2)
        return result

    setattr(owner, name, timed)


def layer_count(folder: Path) -> int:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]


def weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def digest(folder: Path, pattern: str) -> str:
    """SHA-256 over the names and contents of the files that match."""
    total = hashlib.sha256()
    for path in sorted(folder.glob(pattern)):
        with path.open("rb") as file:
            total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def gpu_peak(torch: Any) -> dict[str, float]:
    """Most GPU memory held by tensors, and taken by PyTorch from the device, in GiB; empty without a GPU."""
    if not torch.cuda.is_available():
        return {}
    peaks = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    return {f"gpu_{name}_gib": round(value / 2**30, 2) for name, value in peaks.items()}


def save(results: Path, part: str, metrics: dict[str, Any]) -> None:
    """Print the metrics and keep them under a name that no earlier run has."""
    usage = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    entry = {
        "part": part,
        **metrics,
        "host_peak_gib": round(usage / 2**20, 2),
        "machine": {"cpus": str(os.cpu_count()), "cpu": processor(), **gpus(), **installed_versions(*PACKAGES)},
    }
    results.mkdir(parents=True, exist_ok=True)
    number = 1 + len(list(results.glob(f"{part}-*.json")))
    path = results / f"{part}-{number:03}.json"
    path.write_text(json.dumps(entry, indent=2) + "\n", encoding="utf-8")
    click.echo(f"{path}: " + json.dumps({key: value for key, value in entry.items() if key != "machine"}))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
