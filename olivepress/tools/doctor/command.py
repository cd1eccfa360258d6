"""Is this machine fit for the chosen profile? Said before anything is downloaded.

olivepress doctor [--profile phi-3.5-mini]: prints what is there, then one line for each problem with what to do about
it. Exit status 1 if there is one, 0 otherwise.
"""

import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from olivepress.core.errors import PressError
from olivepress.core.params import load_params, missing_files, read_params
from olivepress.tools.doctor.facts import Facts, collect, gib
from olivepress.tools.doctor.needs import Needs, read_needs
from olivepress.tools.doctor.problems import problems


def report(facts: Facts, needs: Needs) -> list[str]:
    """The facts, a line each."""
    python = f"{platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs, {gib(facts.memory)} memory"
    driver = f"{facts.driver}, CUDA up to {facts.driver_cuda}" if facts.driver else facts.driver_error or "none"
    rows = [("python", python), ("NVIDIA driver", driver)]
    rows += [
        (f"GPU {index}", f"{gpu.name}, {gib(gpu.memory)} ({gib(gpu.free)} free), compute capability {gpu.capability}")
        for index, gpu in enumerate(facts.gpus)
    ]
    cache = f"cache {facts.cache}" + (f": {gib(facts.cache_free)} free" if facts.cache_apart else "")
    size = "size unknown until it is fetched" if needs.weights is None else f"{needs.weights / 1e6:,.1f} MB of weights"
    rows += [
        ("torch", f"{facts.torch or 'none'}, {'CUDA ' + facts.torch_cuda if facts.torch_cuda else 'no CUDA'}"),
        ("ONNX Runtime", f"{facts.onnxruntime or 'none'}: {', '.join(facts.providers)}"),
        ("GenAI", facts.genai or "none"),
        ("disk", f"{gib(facts.disk_free)} free; {cache}"),
        ("DVC remote", facts.remote or "none: dvc push and dvc pull need one (dvc remote add --default)"),
        ("model", f"{needs.model}, {size}"),
        ("targets", ", ".join(f"{name} ({provider})" for name, provider in needs.providers.items())),
    ]
    return [f"{name:<14} {value}" for name, value in rows]


def params_of(root: Path, profile: str | None) -> dict[str, Any]:
    """params.yaml as it stands, or conf/ composed with ``profile``; PressError if they do not fit the schema."""
    if profile is None:
        path = root / "params.yaml"
        if not path.is_file():
            raise PressError(f"{path}: not there. Compose it: make params.")
        load_params(path)
        return read_params(path)
    from olivepress.tools.profile import check_profile, compose

    check_profile(root, profile)
    with tempfile.TemporaryDirectory() as folder:
        composed = Path(folder) / "params.yaml"
        compose(root, [f"profile={profile}"], composed)
        load_params(composed)
        return read_params(composed)


def unfit(root: Path) -> list[str]:
    """What keeps params.yaml from running here, a line each; PressError if it does not fit the schema."""
    params = params_of(root, None)
    return missing_files(params, root) + problems(collect(root), read_needs(root, params))


@click.command()
@click.option("--profile", help="Look with the eyes of this profile of conf/profile; params.yaml without it.")
def main(profile: str | None) -> None:
    """Print what this machine has, and what the chosen profile needs and it lacks."""
    root = Path.cwd()
    params = params_of(root, profile)
    needs = read_needs(root, params)
    facts = collect(root)
    click.echo("\n".join(report(facts, needs)))
    lines = missing_files(params, root) + problems(facts, needs)
    for line in lines:
        click.echo(f"problem: {line}", err=True)
    sys.exit(bool(lines))
