"""A graph for WebGPU: laid out as its provider takes it, right by PyTorch on the CPU, and run on a software adapter.

The plug-in needs another ONNX Runtime than the lock's: `make setup-test-services` puts the two in a folder of their
own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from in_process import run_stage

from olivepress.core.artifact import MODEL
from olivepress.core.errors import PressError
from olivepress.export.projections import read_projections
from olivepress.runtime.logits import provider_of
from olivepress.runtime.release import load, load_run

pytestmark = pytest.mark.usefixtures("one_thread")

SERVICES = Path(__file__).parents[2] / ".services"
CHROMIUM = Path("/usr/lib/chromium")  # Debian's has Vulkan's loader, and SwiftShader, which computes on the CPU
PROMPT = "What is the best thing to see in Chicago?"
MOST = 6
ASK = """\
import json, sys
from pathlib import Path
from olivepress.runtime.release import load_run
import onnxruntime
model = load_run(Path(sys.argv[1]), "chat")
answers = {name: model.answer(sys.argv[2], name, max_new_tokens=int(sys.argv[3])).tokens for name in (None, "travel")}
print(json.dumps([onnxruntime.__version__, answers[None], answers["travel"]]))
"""


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory) -> Path:
    folder, models = tmp_path_factory.mktemp("webgpu"), finished.folder / "models"
    options = {"model": models / "quantized", "out": folder / "model", "quality": folder / "quality.json"}
    flags = ["--provider", "WebGpuExecutionProvider", "--activations", "float32"]
    pairs = [part for name, value in options.items() for part in (f"--{name}", value)]
    assert run_stage("auto_opt", *pairs, *flags).exit_code == 0
    adapter = folder / "adapters/travel.onnx_adapter"
    options = {"adapter": models / "adapters/travel", "model": folder / "model", "out": adapter}
    pairs = [part for name, value in options.items() for part in (f"--{name}", value)]
    assert run_stage("convert_adapter", *pairs, "--quality", folder / "adapter.json").exit_code == 0
    return folder


def test_a_has_its_rank_second_and_the_defaults_have_rank_one(exported):
    graph = onnx.load(exported / "model" / MODEL, load_external_data=False).graph
    defaults = {value.name: list(value.dims) for value in graph.initializer}
    for projection in read_projections(exported / "model" / MODEL).values():
        assert projection.columns
        assert defaults[projection.lora_a] == [projection.inputs, 1]
        assert defaults[projection.lora_b] == [1, projection.outputs]
    lora = {node.op_type for node in graph.node if "/lora" in node.name}
    assert lora == {"MatMul", "Add"}
    (options,) = json.loads((exported / "model/genai_config.json").read_text())["model"]["decoder"]["session_options"][
        "provider_options"
    ]
    assert set(options) == {"webgpu"}


def test_the_cpus_comparison_with_pytorch_is_not_called_a_run(exported):
    assert json.loads((exported / "quality.json").read_text())["proved"] == {MODEL: "structure checked"}


def test_native_operators_are_refused(finished, tmp_path):
    options = ["--model", finished.folder / "models/quantized", "--out", tmp_path / "m", "--quality", tmp_path / "q"]
    done = run_stage("auto_opt", *options, "--provider", "WebGpuExecutionProvider", "--lora-operator", "true")
    assert done.exit_code == 1
    assert "for the CPU and CUDA" in done.output


def test_without_the_plug_in_it_says_what_to_install(exported):
    with pytest.raises(PressError, match="pip install onnxruntime-ep-webgpu"):
        load_run(exported, "chat")
    with pytest.raises(PressError, match="logits cannot be measured yet"):
        provider_of(exported / "model")


@pytest.mark.slow
def test_a_software_adapter_gives_the_tokens_of_the_cpu(exported, finished):
    (packages,) = SERVICES.glob("webgpu-*")
    environment = {
        **os.environ,
        "PYTHONPATH": str(packages),
        "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1",
        "VK_ICD_FILENAMES": str(CHROMIUM / "vk_swiftshader_icd.json"),
        "LD_LIBRARY_PATH": str(CHROMIUM),
    }
    command = [sys.executable, "-c", ASK, exported, PROMPT, str(MOST)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    version, base, travel = json.loads(done.stdout.splitlines()[-1])
    assert version == packages.name.split("-")[1]
    cpu = load(finished.folder / "models/onnx", "cpu-int4", graph="portable")
    assert base == cpu.answer(PROMPT, max_new_tokens=MOST).tokens
    assert travel == cpu.answer(PROMPT, "travel", max_new_tokens=MOST).tokens
    assert base != travel
