"""The CUDA 12 locks, installed in images, the pipeline's and the server's: everything loads, without a GPU, too.

Apart from the other container tests, because it downloads 3 GB.
"""

import json
import shutil
from pathlib import Path

import pytest
from images import build, docker

from olivepress.core.outputs import sha256

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
def server_image() -> str:
    return build("serve-cuda12", "olivepress-test:serve-cuda12")


def load(image: str, *entrypoint: str) -> dict:
    """What load_cuda.py found in the image, on a read-only root."""
    script = f"{HERE / 'load_cuda.py'}:/load_cuda.py:ro"
    command = ["run", "--rm", "--read-only", "-v", script, *entrypoint, image]
    command += [] if entrypoint else ["python"]
    return json.loads(docker(*command, "-W", "ignore", "/load_cuda.py").stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def loaded(cuda_image) -> dict:
    return load(cuda_image)


@pytest.fixture(scope="module")
def loaded_by_server(server_image) -> dict:
    return load(server_image, "--entrypoint", "python")


def test_the_three_import_and_are_the_cuda_builds(loaded, loaded_by_server):
    assert loaded["torch"].startswith("2.10.0") and loaded["torch_cuda"] == "12.8"
    assert loaded_by_server["torch"] is None
    for found in (loaded, loaded_by_server):
        assert found["onnxruntime"] == "1.26.0" and "CUDAExecutionProvider" in found["providers"]
        assert found["genai"] == "0.14.1"


def missing(found: dict) -> dict[str, list[str]]:
    """Libraries that others need and the image lacks, but for TensorRT's."""
    return {
        library: sorted(set(names) - DRIVER)
        for library, names in found["unresolved"].items()
        if set(names) - DRIVER and "tensorrt" not in library
    }


def test_every_cuda_library_resolves(loaded, loaded_by_server):
    assert len(loaded["resolved"]) > 30 and len(loaded_by_server["resolved"]) > 15, "the libraries were looked at"
    assert missing(loaded) == missing(loaded_by_server) == {}


def test_the_cuda_libraries_and_the_provider_open(loaded, loaded_by_server):
    for found in (loaded, loaded_by_server):
        assert found["failed_to_open"] == {}
        assert {"libcublasLt.so.12", "libcudnn.so.9", "libonnxruntime_providers_cuda.so"} <= set(found["opened"])


def test_the_server_without_a_gpu_says_so_and_ends(server_image, finished, tmp_path):
    """A target that asks for CUDA; the same release as it is, for CPUs, is served by this image, too."""
    release = shutil.copytree(finished.folder / "models/onnx/cpu-int4", tmp_path / "release")
    config, manifest = release / "model/genai_config.json", release / "manifest.json"
    settings, listed = (json.loads(path.read_text()) for path in (config, manifest))
    settings["model"]["decoder"]["session_options"]["provider_options"] = [{"cuda": {}}]
    config.write_text(json.dumps(settings))
    listed["files"]["model/genai_config.json"] = {"bytes": config.stat().st_size, "sha256": sha256(config)}
    manifest.write_text(json.dumps(listed))
    for path in (release, *release.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    done = docker("run", "--rm", "--read-only", "-v", f"{release}:/release:ro", server_image, check=False)
    assert done.returncode == 1
    assert "CUDA" in done.stderr and "Traceback" not in done.stderr


def test_the_check_at_the_start_stops_without_a_gpu(cuda_image):
    """The image's own copy of the project asks for no CUDA; a CUDA profile is told what lacks, and nothing runs."""
    done = docker("run", "--rm", "--read-only", cuda_image, "doctor", "--profile", "phi-3.5-mini", check=False)
    assert done.returncode == 1
    assert "2.10.0, CUDA 12.8" in done.stdout.replace("+cu128", "")
    assert "CUDAExecutionProvider" in done.stdout
    assert "problem: no GPU" in done.stderr
    assert "has no CUDAExecutionProvider" not in done.stderr
