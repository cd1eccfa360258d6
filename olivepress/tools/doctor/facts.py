"""What this machine has."""

import runpy
import shutil
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from olivepress.core.errors import PressError
from olivepress.core.lacks import total_memory
from olivepress.export.operator_library import check_library
from olivepress.runtime import webgpu

GIB = 2**30


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
    cache_symlinked: bool  # symbolic ones
    remote: str | None
    lora_operator: str | None  # what is wrong with the native operators, if anything
    webgpu: str | None  # why nothing can be computed on WebGPU


def collect(root: Path) -> Facts:
    """Look at this machine, from the project's folder ``root``. Loads neither torch nor a model."""
    driver, driver_cuda, driver_error, gpus = _nvidia()
    cache, links, remote = _dvc(root)
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    runtime, providers = _onnxruntime()
    return Facts(
        memory=total_memory(),
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
        cache_free=shutil.disk_usage(existing).free,
        cache_apart=existing.stat().st_dev != root.stat().st_dev,
        cache_linked=links in ("hardlink", "symlink"),
        cache_symlinked=links == "symlink",
        remote=remote,
        lora_operator=_operators_problem(),
        webgpu=webgpu.problem() if runtime else "onnxruntime is not installed",
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


def gpus() -> tuple[Gpu, ...]:
    """The devices that NVML names; none where it does not answer."""
    return _nvidia()[3]


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


def _operators_problem() -> str | None:
    try:
        check_library()
    except PressError as error:
        return str(error)
    return None


def _onnxruntime() -> tuple[str | None, tuple[str, ...]]:
    version = _installed("onnxruntime-gpu", "onnxruntime")
    if version is None:
        return None, ()
    import onnxruntime

    return version, tuple(onnxruntime.get_available_providers())


def _dvc(root: Path) -> tuple[Path, str, str | None]:
    """Where DVC's cache is, how outputs come out of it, and the default remote (without credentials)."""
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
    return cache.resolve(), links[0] if links else "copy", remote


def gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
