"""A decoder layer in one operator beside the nine that it stands for, and beside llama.cpp, in turns.

On SmolLM2, or on a Phi-3 with random weights. Ours by one library and one file of weights: the graph as it ships, and
the same with every layer expanded. The int4 weights are rounded and not searched for, which changes no speed; adapters
are random. llama.cpp's files are made from the same float weights and adapters. docs/log/2026-11-29-layers.md has what
it gave.
"""

import random
import shutil
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
from joblib import cpu_count

from benchmarks import libllama, models
from benchmarks.beside.install import LLAMA, install
from benchmarks.bytes_loss import move_off_grid
from benchmarks.machine import runtime_versions
from benchmarks.models import timed
from olivepress.core.artifact import OPERATORS
from olivepress.core.checkpoint import read_config
from olivepress.core.machine import processor
from olivepress.core.outputs import write_json
from olivepress.export.model_builder import Target
from olivepress.fetch.gguf import convert
from olivepress.runtime.genai import load_model
from olivepress.runtime.graphs import NATIVE, choose, this_machine
from olivepress.runtime.trust import read_genai_config
from tools.make_random import PRESETS

ROOT = Path(__file__).parents[1]
TARGET = Target("CPUExecutionProvider", "int4", "int8", "int8")
RANKS = (8, 64)
KINDS = ("Q4_0", "Q4_K_M")
LLAMA_CPP = "llama.cpp"
# tokens of the prompt, tokens -> tokens a second, seconds of the prompt, and what else there is
Run = Callable[[int, int], tuple]


@click.command(context_settings={"show_default": True})
@click.option("--gguf", type=click.Path(exists=True, path_type=Path), help="SmolLM2's Q4_1 file.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Of tools/random-configs.")
@click.option("--layers", type=click.IntRange(1), help="Of a preset, instead of the number that it has.")
@click.option("--group", type=click.Choice(["32", "64", "128"]), default="64", help="Weights that share a scale.")
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), default=ROOT / "models/bench-layers")
@click.option(
    "--results", type=click.Path(path_type=Path, dir_okay=False), default=ROOT / "results/bench/decoder-layers.json"
)
@click.option("--prompt", "length", type=click.IntRange(1), default=64, help="Tokens before.")
@click.option("--tokens", type=click.IntRange(16), default=160, help="To decode.")
@click.option("--rounds", type=click.IntRange(1), default=10)
def main(
    gguf: Path | None,
    preset: str | None,
    layers: int | None,
    group: str,
    work: Path,
    results: Path,
    length: int,
    tokens: int,
    rounds: int,
) -> None:
    """Make what is missing in WORK, measure every case once a round, in an order that changes, and write RESULTS."""
    if (gguf is None) == (preset is None):
        raise click.UsageError("give either --gguf or --preset")
    work.mkdir(parents=True, exist_ok=True)
    if gguf:
        make_smollm2(work, gguf)
    else:
        make_phi3(work, preset, layers)
    make(work, int(group), "llama" if gguf else "phi3")
    threads = cpu_count()
    cases = contenders(work, threads, length + tokens)
    found: dict[str, dict[str, list[float]]] = {name: {"tokens_per_s": [], "prefill_ms": []} for name in cases}
    for number in range(rounds + 1):  # the first warms up
        for name in random.Random(number).sample(sorted(cases), len(cases)):
            rate, prefill, *_ = cases[name](length, tokens)
            if number:
                found[name]["tokens_per_s"].append(round(rate, 1))
                found[name]["prefill_ms"].append(round(1e3 * prefill, 1))
        click.echo(f"round {number} of {rounds}", err=True)
    features = this_machine().features & {"avx2", "avx512f", "avx512_vnni"}
    medians = {name: {key: statistics.median(each) for key, each in case.items()} for name, case in found.items()}
    write_json(
        results,
        {
            "machine": {"processor": processor(), "cpus": threads, "features": sorted(features)},
            "versions": runtime_versions() | {LLAMA_CPP: LLAMA},
            "settings": {
                "prompt": length,
                "tokens": tokens,
                "rounds": rounds,
                "group": int(group),
                "model": gguf.stem if gguf else preset,
                "layers": read_config(work / "float")["num_hidden_layers"],
            },
            "medians": medians,
            "rounds": found,
        },
    )
    for name, median in medians.items():
        click.echo(f"{name:24} {median['tokens_per_s']:8.1f} tokens a second, prompt {median['prefill_ms']:7.1f} ms")


def make_smollm2(work: Path, gguf: Path) -> None:
    """The float weights, moved off the grid that ``gguf`` has them on, as a checkpoint and as a GGUF file."""
    if not (work / "float").exists():
        with timed("moved weights"):
            move_off_grid(gguf, work / "float.gguf")
            convert(work / "float.gguf", work / "float")


def make_phi3(work: Path, preset: str, layers: int | None) -> None:
    """A random checkpoint, and the same as a GGUF file."""
    if not (work / "float.gguf").exists():
        with timed("random weights"):
            shutil.rmtree(work / "float", ignore_errors=True)
            models.make_float(preset, work / "float", layers)
            libllama.write_phi3(work / "float", work / "float.gguf")


def make(work: Path, group: int, architecture: str) -> None:
    """Ours in two graphs with adapters, llama.cpp's libraries and files; what is there stays."""
    if not (work / "int4").exists():
        models.make_int4(work / "float", work / "int4", group)
    if not (work / "one").exists():
        with timed("export"):
            models.export_ours(work / "int4", work / "one", TARGET, operator=True, both=True)
            for rank in RANKS:
                models.make_adapter(work / "float", work / f"rank-{rank}", rank)
                models.convert_adapter(work / f"rank-{rank}", work / "one", work / f"{rank}.onnx_adapter")
                libllama.write_adapter(work / f"rank-{rank}", work / f"{rank}.gguf", architecture)
    if not (work / "nine").exists():
        shutil.copytree(work / "one", work / "nine")
        expanded(work / "one" / OPERATORS, work / "nine" / OPERATORS)
    install(LLAMA_CPP, work / "llama")
    for kind in KINDS:
        if not (work / f"{kind}.gguf").exists():
            libllama.quantize(work / "llama", work / "float.gguf", work / f"{kind}.gguf", kind, cpu_count())


def expanded(source: Path, out: Path) -> None:
    """Write the graph with nine operators in the place of each that is a layer."""
    import onnx

    from olivepress.export.passes.decoder_layers import expand

    model = onnx.load(source, load_external_data=False)
    expand(model)
    onnx.save(model, out)


def contenders(work: Path, threads: int, most: int) -> dict[str, Run]:
    """Every case, loaded, by name."""
    import onnxruntime_genai as og

    cases: dict[str, Run] = {}
    for name in ("nine", "one"):
        model = load_model(work / name, read_genai_config(work / name), choose(work / name, NATIVE))
        adapters = og.Adapters(model)
        cases[f"{name}, no adapter"] = models.runner(model, adapters, None)
        for rank in RANKS:
            adapters.load(str(work / f"{rank}.onnx_adapter"), f"rank {rank}")
            cases[f"{name}, rank {rank}"] = models.runner(model, adapters, f"rank {rank}")
    for kind in KINDS:
        file = work / f"{kind}.gguf"
        cases[f"{kind}, no adapter"] = partial(_decode, libllama.Llama(work / "llama", file, threads, most))
        for rank in RANKS:
            llama = libllama.Llama(work / "llama", file, threads, most, work / f"{rank}.gguf")
            cases[f"{kind}, rank {rank}"] = partial(_decode, llama)
    return cases


def _decode(llama: libllama.Llama, length: int, tokens: int) -> tuple[float, float]:
    return llama.decode(models.prompt(length).tolist(), tokens, models.WARM_UP)


if __name__ == "__main__":
    main()
