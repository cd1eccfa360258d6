"""The CUDA 12 lock, installed in an image: everything loads, on a machine without a GPU too.

Apart from the other container tests, because it downloads 3 GB.
"""

import json
from pathlib import Path

import pytest
from images import build, docker

pytestmark = pytest.mark.download
HERE = Path(__file__).parent
# The driver brings these; the NVIDIA Container Toolkit puts them in when the container starts.
DRIVER = {"libcuda.so.1", "libnvidia-ml.so.1"}


@pytest.fixture(scope="module")
def cuda_image() -> str:
    if docker("info", check=False).returncode:
        pytest.fail("Docker does not answer. Start it first.")
    return build("cuda12", "olivepress-test:cuda12")


@pytest.fixture(scope="module")
def loaded(cuda_image) -> dict:
    """What load_cuda.py found in the image, on a read-only root."""
    script = f"{HERE / 'load_cuda.py'}:/load_cuda.py:ro"
    done = docker("run", "--rm", "--read-only", "-v", script, cuda_image, "python", "-W", "ignore", "/load_cuda.py")
    return json.loads(done.stdout.splitlines()[-1])


def test_the_three_import_and_are_the_cuda_builds(loaded):
    assert loaded["torch"].startswith("2.10.0") and loaded["torch_cuda"] == "12.8"
    assert loaded["onnxruntime"] == "1.26.0" and "CUDAExecutionProvider" in loaded["providers"]
    assert loaded["genai"] == "0.14.1"


def test_every_cuda_library_resolves(loaded):
    assert len(loaded["resolved"]) > 30, "the libraries were looked at"
    missing = {
        library: sorted(set(names) - DRIVER)
        for library, names in loaded["unresolved"].items()
        if set(names) - DRIVER and "tensorrt" not in library  # TensorRT is not part of the image
    }
    assert missing == {}


def test_the_cuda_libraries_and_the_provider_open(loaded):
    assert loaded["failed_to_open"] == {}
    assert {"libcublasLt.so.12", "libcudnn.so.9", "libonnxruntime_providers_cuda.so"} <= set(loaded["opened"])


def test_the_check_at_the_start_stops_without_a_gpu(cuda_image):
    """The image's own copy of the project asks for no CUDA; a CUDA profile is told what lacks, and nothing runs."""
    done = docker("run", "--rm", "--read-only", cuda_image, "doctor", "--profile", "phi-3.5-mini", check=False)
    assert done.returncode == 1
    assert "2.10.0, CUDA 12.8" in done.stdout.replace("+cu128", "")
    assert "CUDAExecutionProvider" in done.stdout
    assert "problem: no GPU" in done.stderr
    assert "has no CUDAExecutionProvider" not in done.stderr
