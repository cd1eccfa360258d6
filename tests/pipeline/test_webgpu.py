"""A target for WebGPU: laid out as its provider takes it, right by PyTorch on the CPU, run and measured on SwiftShader.

The plug-in needs another ONNX Runtime than the lock's: `make setup-test-services` puts the two in a folder of their
own. SwiftShader is a software adapter that computes on the CPU; Debian's chromium brings it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from in_process import run_stage
from own_export import export_with_travel, options_of

from olivepress.core.artifact import MODEL
from olivepress.core.errors import PressError
from olivepress.export.projections import read_projections
from olivepress.runtime.logits import OnnxLogits, provider_of
from olivepress.runtime.release import load_run

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
PLUG_IN = ROOT / ".services/webgpu"
CHROMIUM = Path("/usr/lib/chromium")  # Debian's has Vulkan's loader, and SwiftShader
SWIFTSHADER = {
    "PYTHONPATH": str(PLUG_IN),
    "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1",
    "VK_ICD_FILENAMES": str(CHROMIUM / "vk_swiftshader_icd.json"),
    "LD_LIBRARY_PATH": str(CHROMIUM),
}
FLAGS = ["--provider", "WebGpuExecutionProvider", "--activations", "float32"]
PROVIDER = FLAGS[1]
# Relative differences of SwiftShader's logits from those of the CPU on one graph. Both compute in float32, and add in
# another order: 1.2e-6 was seen, a thousandth of what int8 activations cost.
BOUND = 2e-5
WRONG = 0.01  # what a prompt of 32 tokens and more is wrong by, at least, read as a whole; seen: 0.08 to 0.2
COMPARE = """\
import json, sys
from pathlib import Path
import numpy as np
from olivepress.runtime import webgpu
from olivepress.runtime.genai import Model
from olivepress.runtime.logits import OnnxLogits

folder = Path(sys.argv[1])
files = {"travel": folder / "adapters/travel.onnx_adapter"}
cpu = OnnxLogits(folder / "model", files, "CPUExecutionProvider")
gpu = OnnxLogits(folder / "model", files, "WebGpuExecutionProvider")
model = Model(folder / "model", files, template="chat")
ids = np.random.default_rng(0).integers(8, 2000, 40).tolist()


def away(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


found = {}
for name in (None, "travel"):
    expected = cpu(ids, name)
    found[str(name)] = [away(gpu(ids, name), expected), away(model.logits(ids, name), expected[-1])]
found["adapter"] = away(cpu(ids, "travel"), cpu(ids))
webgpu.PIECE = len(ids)
found["whole"] = away(OnnxLogits(folder / "model", files, "WebGpuExecutionProvider")(ids), cpu(ids))
print(json.dumps(found))
"""
LOAD = """\
import sys
from pathlib import Path
from olivepress.core.errors import PressError
from olivepress.runtime.genai import Model
from olivepress.runtime.logits import OnnxLogits

folder = Path(sys.argv[1]) / "model"
for load in (lambda: OnnxLogits(folder, {}, "WebGpuExecutionProvider"), lambda: Model(folder, {}, template="chat")):
    try:
        load()
    except PressError as error:
        print(error.message)
"""


def said(script: str, folder: Path, **environment: str) -> list[str]:
    """The lines that a process with the plug-in prints."""
    variables = {**os.environ, "PYTHONPATH": str(PLUG_IN), **environment}
    command = [sys.executable, "-c", script, folder]
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("webgpu")
    export_with_travel(finished, folder, *FLAGS)
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
    places = options_of(model=finished.folder / "models/quantized", out=tmp_path / "m", quality=tmp_path / "q")
    done = run_stage("auto_opt", *places, "--provider", PROVIDER, "--lora-operator", "true")
    assert done.exit_code == 1
    assert "for the CPU and CUDA" in done.output


def test_without_the_plug_in_it_says_what_to_install(exported):
    assert provider_of(exported / "model") == PROVIDER
    for load in (lambda: load_run(exported, "chat"), lambda: OnnxLogits(exported / "model", {}, PROVIDER)):
        with pytest.raises(
            PressError, match=r"made for WebGPU: the plug-in is not installed: pip install 'olivepress\["
        ):
            load()


def test_without_a_gpu_it_says_so_and_computes_nothing_on_the_cpu(exported):
    words = said(LOAD, exported, ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER="")
    assert len(words) == 2
    assert all("made for WebGPU: the plug-in finds no GPU here" in line for line in words)


def test_a_gpu_that_does_not_answer_is_no_reason_to_take_the_cpu(exported, tmp_path):
    """No Vulkan driver: ONNX Runtime would fall back to the CPU, with a warning."""
    (tmp_path / "none.json").write_text("{}")
    words = "\n".join(said(LOAD, exported, **{**SWIFTSHADER, "VK_ICD_FILENAMES": str(tmp_path / "none.json")}))
    assert words.count("Failed to get a WebGPU adapter") == 2


@pytest.mark.slow
def test_a_software_adapter_gives_the_logits_of_the_cpu(exported):
    """In ONNX Runtime and in GenAI, without and with an adapter, of a prompt that is read in two pieces."""
    (line,) = said(COMPARE, exported, **SWIFTSHADER)[-1:]
    found = json.loads(line)
    assert max(*found["None"], *found["travel"]) < BOUND
    assert found["adapter"] > 0.05, "else it could be left out, and nobody would see"
    assert found["whole"] > WRONG, "ONNX Runtime's attention is mended: webgpu.PIECE can go"


@pytest.mark.slow
@pytest.mark.timeout(3600)  # SwiftShader's time is that of the machine's cores: ten minutes on two that are shared
def test_the_pipeline_measures_it_and_holds_it_to_the_same_thresholds(one_adapter, tmp_path):
    space = one_adapter.copy(tmp_path / "clone")
    space.run("python", "-m", "olivepress", "params", "profile=tiny-webgpu")
    space.environment = SWIFTSHADER
    ran = space.repro()
    assert not {"quantize", "finetune@travel", "auto-opt@cpu-int4"} & ran
    assert {"evaluate@travel-webgpu-int4", "gate@webgpu-int4", "register@webgpu-int4"} <= ran
    ours, cpus = (
        json.loads(space.read(f"results/quality/evaluate/{target}/travel.json"))
        for target in ("webgpu-int4", "cpu-int4")
    )
    for rows in ("held_out", "general"):
        for step, divergence in ours[rows]["kl_divergence"].items():
            assert divergence < cpus[rows]["kl_divergence"][step], "float32 is nearer to PyTorch than int8 is"
    manifest = json.loads(space.read("models/onnx/webgpu-int4/manifest.json"))
    assert manifest["proved"] == {f"model/{MODEL}": "evaluated"}
    assert "onnxruntime-ep-webgpu" in space.read("models/onnx/webgpu-int4/README.md")
    assert space.repro() == set()
