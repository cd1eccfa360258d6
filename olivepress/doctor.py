"""Is this machine fit for the chosen profile? Said before anything is downloaded.

python -m olivepress.doctor [--profile phi-3.5-mini]: prints what is there, then one line for each problem with what to
do about it. Exit status 1 if there is one, 0 otherwise.

What is collected (``Facts``, ``Needs``) is kept apart from what is concluded (``problems``), so that the conclusions
can be tested on machines that are not at hand.
"""

import json
import os
import platform
import runpy
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click

from olivepress import checkpoint
from olivepress.errors import PressError
from olivepress.lora_operator import built
from olivepress.sources import HUB

GIB = 2**30
# The oldest Linux driver that runs programs built for a CUDA major version: within one, any minor version runs on it
# (NVIDIA, "CUDA Compatibility", minor version compatibility).
OLDEST_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Beside the weights: the CUDA context, cuBLAS and cuDNN workspaces, and the smallest activations that there can be.
GPU_OVERHEAD = GIB
CUDA_PROVIDER = "CUDAExecutionProvider"
OPERATOR_CAPABILITY = "8.0"  # what olivepress/build_lora_operator.py compiles for
LOCK = "docker/requirements-cuda12.txt"


@dataclass(frozen=True)
class Gpu:
    """One device as NVML names it; memory in bytes."""

    name: str
    memory: int
    free: int
    capability: str


@dataclass(frozen=True)
class Facts:
    """What the machine has. Sizes are in bytes; None means that the thing is not there."""

    memory: int
    driver: str | None
    driver_cuda: str | None  # the newest CUDA that the driver speaks
    driver_error: str | None  # why NVML did not answer although a driver is there
    gpus: tuple[Gpu, ...]
    torch: str | None
    torch_cuda: str | None  # the CUDA that torch was built for
    onnxruntime: str | None
    genai: str | None
    providers: tuple[str, ...]
    disk_free: int
    cache: str
    cache_free: int
    cache_apart: bool  # on another file system than the project
    cache_linked: bool  # outputs are links into the cache, not copies
    remote: str | None
    lora_operator: bool  # the native library is built


@dataclass(frozen=True)
class Needs:
    """What a profile asks for. Sizes are lower bounds in bytes; None means that the model's size is not known."""

    model: str
    weights: int | None
    cuda: tuple[str, ...]  # the params that ask for CUDA
    providers: dict[str, str]  # target -> execution provider
    lora_operator: tuple[str, ...]  # the targets that ship the native library
    gpu_memory: int | None
    memory: int | None
    disk: int | None


def problems(facts: Facts, needs: Needs) -> list[str]:
    """One line for each thing that the profile needs and the machine lacks: what, and what to do."""
    found = []
    installed = {"torch": facts.torch, "onnxruntime": facts.onnxruntime, "onnxruntime-genai": facts.genai}
    found += [f"{name} is not installed: run make setup." for name, version in installed.items() if version is None]
    if needs.cuda:
        found += _cuda_problems(facts, needs)
    for target, provider in needs.providers.items():
        if facts.onnxruntime and provider not in facts.providers:
            build = f"install {LOCK}" if provider == CUDA_PROVIDER else "install the onnxruntime build that has it"
            found.append(
                f"targets.{target}.provider: this onnxruntime has no {provider} (it has "
                f"{', '.join(facts.providers)}): {build}, or leave the target out."
            )
    if not facts.lora_operator:
        found += [
            f"targets.{target}.lora_operator: the operator is not built: run make lora-operator, or set it to false."
            for target in needs.lora_operator
        ]
    if needs.memory and needs.memory > facts.memory:
        found.append(
            f"memory: {needs.model} needs {_gib(needs.memory)} for its weights alone, this machine has "
            f"{_gib(facts.memory)}: take a smaller model, a shorter dtype or a larger machine."
        )
    return found + _disk_problems(facts, needs)


def _cuda_problems(facts: Facts, needs: Needs) -> list[str]:
    asked = ", ".join(needs.cuda)
    if facts.driver_error:
        return [
            f"the NVIDIA driver does not answer ({facts.driver_error}), and {asked} needs it: reload or reinstall it."
        ]
    if not facts.gpus:
        there = f"driver {facts.driver}, but no device" if facts.driver else "no NVIDIA driver"
        return [
            f"no GPU ({there}), and {asked} asks for CUDA: use a machine with one, start the container with "
            "--gpus all, or take a CPU profile (make params PROFILE=tiny)."
        ]
    found = []
    if facts.torch and not facts.torch_cuda:
        found.append(f"torch {facts.torch} is built without CUDA, and {asked} asks for it: install {LOCK}.")
    major = int((facts.torch_cuda or "12").partition(".")[0])
    oldest = OLDEST_DRIVER.get(major)
    if oldest and facts.driver and _version(facts.driver) < _version(oldest):
        found.append(f"driver {facts.driver} is too old for CUDA {major}: install {oldest} or newer.")
    found += _operator_problems(facts, needs)
    largest = max(facts.gpus, key=lambda gpu: gpu.memory)
    if needs.gpu_memory and needs.gpu_memory > largest.memory:
        found.append(
            f"GPU memory: {needs.model} needs at least {_gib(needs.gpu_memory)}, {largest.name} has "
            f"{_gib(largest.memory)}: take a smaller model or a larger GPU."
        )
    elif needs.gpu_memory and needs.gpu_memory > max(gpu.free for gpu in facts.gpus):
        found.append(
            f"GPU memory: {needs.model} needs at least {_gib(needs.gpu_memory)}, only "
            f"{_gib(max(gpu.free for gpu in facts.gpus))} is free: end what else runs there (nvidia-smi lists it)."
        )
    return found


def _operator_problems(facts: Facts, needs: Needs) -> list[str]:
    return [
        f"targets.{target}.lora_operator: it needs compute capability {OPERATOR_CAPABILITY}, {gpu.name} has "
        f"{gpu.capability}: set it to false."
        for target in needs.lora_operator
        for gpu in facts.gpus
        if needs.providers[target] == CUDA_PROVIDER and _version(gpu.capability) < _version(OPERATOR_CAPABILITY)
    ]


def _disk_problems(facts: Facts, needs: Needs) -> list[str]:
    if not needs.disk:
        return []
    places = [("here", facts.disk_free, needs.disk)]
    if facts.cache_apart:
        places.append((f"at {facts.cache} (DVC's cache)", facts.cache_free, needs.disk))
    elif not facts.cache_linked:
        places = [("here, DVC's cache included", facts.disk_free, 2 * needs.disk)]
    return [
        f"disk: {needs.model} needs at least {_gib(need)} {place}, {_gib(free)} is free: free some, or put the "
        "cache elsewhere (dvc cache dir)."
        for place, free, need in places
        if need > free
    ]


def collect(root: Path) -> Facts:
    """Look at this machine, from the project's folder ``root``. Loads neither torch nor a model."""
    import psutil

    driver, driver_cuda, driver_error, gpus = _nvidia()
    cache, linked, remote = _dvc(root)
    place = next(path for path in (cache, *cache.parents) if path.exists())
    runtime, providers = _onnxruntime()
    return Facts(
        memory=psutil.virtual_memory().total,
        driver=driver,
        driver_cuda=driver_cuda,
        driver_error=driver_error,
        gpus=gpus,
        torch=_installed("torch"),
        torch_cuda=_torch_cuda(),
        onnxruntime=runtime,
        genai=_installed("onnxruntime-genai", "onnxruntime-genai-cuda"),
        providers=providers,
        disk_free=shutil.disk_usage(root).free,
        cache=str(cache),
        cache_free=shutil.disk_usage(place).free,
        cache_apart=place.stat().st_dev != root.stat().st_dev,
        cache_linked=linked,
        remote=remote,
        lora_operator=built() is not None,
    )


def _nvidia() -> tuple[str | None, str | None, str | None, tuple[Gpu, ...]]:
    """Driver, its CUDA, why it does not answer, and the devices, from NVML."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return None, None, None, ()
    except pynvml.NVMLError as error:
        return None, None, str(error), ()
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        gpus = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(device)
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(device)
            gpus.append(Gpu(pynvml.nvmlDeviceGetName(device), memory.total, memory.free, f"{major}.{minor}"))
        return driver, f"{cuda // 1000}.{cuda % 1000 // 10}", None, tuple(gpus)
    except pynvml.NVMLError as error:
        return None, None, str(error), ()
    finally:
        pynvml.nvmlShutdown()


def _installed(*distributions: str) -> str | None:
    """The version of the first of ``distributions`` that is installed."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _torch_cuda() -> str | None:
    """The CUDA that torch was built for, from its version file: importing torch takes seconds."""
    spec = util.find_spec("torch")
    if not spec or not spec.submodule_search_locations:
        return None
    return runpy.run_path(str(Path(spec.submodule_search_locations[0]) / "version.py"))["cuda"]


def _onnxruntime() -> tuple[str | None, tuple[str, ...]]:
    version = _installed("onnxruntime-gpu", "onnxruntime")
    if version is None:
        return None, ()
    import onnxruntime

    return version, tuple(onnxruntime.get_available_providers())


def _dvc(root: Path) -> tuple[Path, bool, str | None]:
    """Where DVC's cache is, whether outputs are linked to it, and the default remote (without credentials)."""
    from dvc.config import Config, ConfigError

    if not (root / ".dvc").is_dir():
        raise PressError(f"{root}: no .dvc folder. Run this in the project's folder.")
    try:
        config = Config(dvc_dir=str(root / ".dvc"))
    except ConfigError as error:
        raise PressError(f"{root / '.dvc/config'}: {error}. Mend it with dvc config.") from error
    cache = Path(config["cache"].get("dir") or root / ".dvc/cache")
    links = config["cache"].get("type") or []
    name = config["core"].get("remote")
    remote = None
    if name:
        url = urlsplit(config["remote"].get(name, {}).get("url", "undefined"))
        url = url._replace(netloc=url.netloc.rpartition("@")[2])
        remote = f"{name} ({urlunsplit(url)})"
    # only the first counts: DVC takes the copy that it falls back to for a reflink, and tries no further
    return cache.resolve(), bool({"hardlink", "symlink"} & set(links[:1])), remote


def read_needs(root: Path, params: dict[str, Any]) -> Needs:
    """What ``params`` (a composed params.yaml) ask of a machine; PressError names a key that is missing.

    The sizes are what the weights alone take: a run needs more, never less.
    """
    try:
        source = params["model"]["source"]
        devices = {f"{part}.device": params[part]["device"] for part in ("quantize", "finetune", "evaluate")}
        dtypes = {f"{part}.device": params[part]["dtype"] for part in ("finetune", "evaluate")}
        providers = {name: target["provider"] for name, target in params["targets"].items()}
        bits = params["quantize"]["bits"]
    except (KeyError, TypeError) as error:
        raise PressError(f"params.yaml: {error} is missing. Compose it again: make params.") from error
    cuda = [key for key, device in devices.items() if device.startswith("cuda")]
    cuda += [f"targets.{name}.provider" for name, provider in providers.items() if provider == CUDA_PROVIDER]
    parameters, weights = _model_size(root, source)

    def resident(on_gpu: bool) -> int | None:
        """The largest copy of the weights that one stage holds on this kind of device."""
        widths = [BYTES.get(dtypes[key], 2) for key in dtypes if devices[key].startswith("cuda") == on_gpu]
        return parameters * max(widths) if parameters and widths else None

    on_gpu = resident(True)
    disk = None
    if weights:
        small = weights * bits // 16  # the quantized checkpoint, and an export of it
        outs = {"models/quantized": small} | {f"models/onnx/{name}/model": small for name in providers}
        disk = sum(size for path, size in outs.items() if not (root / path).exists())
        disk += 0 if _fetched(root, source) else weights
    return Needs(
        model=source,
        weights=weights,
        cuda=tuple(cuda),
        providers=providers,
        lora_operator=tuple(name for name, target in params["targets"].items() if target.get("lora_operator")),
        gpu_memory=on_gpu + GPU_OVERHEAD if on_gpu else None,
        memory=resident(False),
        disk=disk,
    )


def _model_size(root: Path, source: str) -> tuple[int | None, int | None]:
    """(parameters, bytes of weights), from the folder or from the hub's listing; None if they cannot be known."""
    folder = root / ("models/base" if _fetched(root, source) else source)
    if (folder / "config.json").is_file():
        return checkpoint.parameters(folder), checkpoint.weight_bytes(folder)
    match = HUB.fullmatch(source)
    if not match:
        return None, None
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        info = HfApi().model_info(match["name"], revision=match["revision"], files_metadata=True, timeout=10)
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.HTTPError, OSError):
        return None, None  # no reason to stop: the model may lie in DVC's cache; fetch says what is wrong
    weights = sum(file.size or 0 for file in info.siblings or [] if file.rfilename.endswith(".safetensors"))
    parameters = info.safetensors.total if info.safetensors else weights // 2
    return parameters or None, weights or None


def _fetched(root: Path, source: str) -> bool:
    """Whether models/base holds this very source: an earlier run's base may be another model."""
    record = root / "results/quality/fetch.json"
    if not (root / "models/base/config.json").is_file() or not record.is_file():
        return False
    return json.loads(record.read_text(encoding="utf-8")).get("source") == source


def report(facts: Facts, needs: Needs) -> list[str]:
    """The facts, a line each."""
    python = f"{platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs, {_gib(facts.memory)} memory"
    driver = f"{facts.driver}, CUDA up to {facts.driver_cuda}" if facts.driver else facts.driver_error or "none"
    rows = [("python", python), ("NVIDIA driver", driver)]
    rows += [
        (f"GPU {index}", f"{gpu.name}, {_gib(gpu.memory)} ({_gib(gpu.free)} free), compute capability {gpu.capability}")
        for index, gpu in enumerate(facts.gpus)
    ]
    cache = f"cache {facts.cache}" + (f": {_gib(facts.cache_free)} free" if facts.cache_apart else "")
    size = "size unknown until it is fetched" if needs.weights is None else f"{needs.weights / 1e6:,.1f} MB of weights"
    rows += [
        ("torch", f"{facts.torch or 'none'}, {'CUDA ' + facts.torch_cuda if facts.torch_cuda else 'no CUDA'}"),
        ("ONNX Runtime", f"{facts.onnxruntime or 'none'}: {', '.join(facts.providers)}"),
        ("GenAI", facts.genai or "none"),
        ("disk", f"{_gib(facts.disk_free)} free; {cache}"),
        ("DVC remote", facts.remote or "none: dvc push and dvc pull need one (dvc remote add --default)"),
        ("model", f"{needs.model}, {size}"),
        ("targets", ", ".join(f"{name} ({provider})" for name, provider in needs.providers.items())),
    ]
    return [f"{name:<14} {value}" for name, value in rows]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def read_params(root: Path, profile: str | None) -> dict[str, Any]:
    """params.yaml as it stands, or conf/ composed with ``profile``; PressError if either is not to be had."""
    import yaml

    if profile is None:
        path = root / "params.yaml"
        if not path.is_file():
            raise PressError(f"{path}: not there. Compose it: make params.")
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    known = sorted(path.stem for path in (root / "conf/profile").glob("*.yaml"))
    if profile not in known:
        raise PressError(f"conf/profile/{profile}.yaml: no such profile (there: {', '.join(known)}).")
    from olivepress.profile import compose

    with tempfile.TemporaryDirectory() as folder:
        composed = Path(folder) / "params.yaml"
        compose(root, [f"profile={profile}"], composed)
        return yaml.safe_load(composed.read_text(encoding="utf-8"))


@click.command()
@click.option("--profile", help="Look with the eyes of this profile of conf/profile; params.yaml without it.")
def main(profile: str | None) -> None:
    """Print what this machine has, and what the chosen profile needs and it lacks."""
    root = Path.cwd()
    needs = read_needs(root, read_params(root, profile))
    facts = collect(root)
    click.echo("\n".join(report(facts, needs)))
    found = problems(facts, needs)
    for line in found:
        click.echo(f"problem: {line}", err=True)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
