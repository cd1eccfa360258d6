"""What a measurement ran on: processor, graphics cards, versions."""

import importlib.metadata
import platform
import shutil
import subprocess

CUDA_BUILDS = {"onnxruntime": "onnxruntime-gpu", "onnxruntime-genai": "onnxruntime-genai-cuda"}


def gpus() -> dict[str, str]:
    """{"gpu": name and driver of each, as nvidia-smi prints them}; empty without nvidia-smi."""
    if not shutil.which("nvidia-smi"):
        return {}
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return {"gpu": subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()}


def runtime_versions() -> dict[str, str]:
    """Versions of Python and of the runtime that is imported, whichever build of it that is."""
    import onnxruntime
    import onnxruntime_genai

    return {
        "onnxruntime": onnxruntime.__version__,
        "onnxruntime_genai": onnxruntime_genai.__version__,
        "python": platform.python_version(),
    }


def installed_versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of each package that is installed; CUDA builds go by names of their own."""
    versions = {"python": platform.python_version()}
    for package in packages:
        for name in (package, CUDA_BUILDS.get(package, package)):
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
    return versions
