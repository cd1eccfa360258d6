"""docker/requirements-cuda12.txt: for CUDA 12, and otherwise what requirements.txt has."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
# what CUDA changes: these differ by design, CUDA's own libraries are only in one of the two
REPLACED = {"torch", "triton", "onnxruntime", "onnxruntime-genai", "onnxruntime-gpu", "onnxruntime-genai-cuda"}


def pins(path: str) -> dict[str, str]:
    """Name -> version of every package that a lock pins."""
    return dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", (ROOT / path).read_text(), re.M))


def wanted(path: str, until: str = "# development") -> set[str]:
    """The names that an input file asks for, development tools apart."""
    return set(re.findall(r"^([\w-]+)", (ROOT / path).read_text().partition(until)[0], re.M))


CPU = pins("requirements.txt")
CUDA = pins("docker/requirements-cuda12.txt")


def test_it_has_the_cuda_12_builds():
    assert CUDA["torch"] == "2.10.0"
    assert CUDA["onnxruntime-gpu"] == CPU["onnxruntime"]
    assert CUDA["onnxruntime-genai-cuda"] == CPU["onnxruntime-genai"]
    assert {"nvidia-cudnn-cu12", "nvidia-cublas-cu12", "nvidia-cufft-cu12", "nvidia-curand-cu12"} <= CUDA.keys()
    assert not {"onnxruntime", "onnxruntime-genai"} & CUDA.keys(), "the CPU builds would overwrite the others' files"
    assert not [name for name in CUDA if name.endswith("-cu13")]


def test_everything_else_is_at_the_cpu_locks_version():
    for name in CUDA.keys() & CPU.keys() - REPLACED:
        assert CUDA[name] == CPU[name], f"{name}: run make lock-cuda12"
    missing = (wanted("requirements.in") | wanted("docker/requirements-cuda12.in")) - REPLACED - CUDA.keys()
    assert missing == set(), "run make lock-cuda12"
    for name in CUDA.keys() - CPU.keys() - REPLACED:
        assert name.startswith(("nvidia-", "cuda-")), name
