"""What the doctor concludes from recorded machines, and what it finds on this one."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from olivepress.core.errors import PressError
from olivepress.tools.doctor.command import params_of, report
from olivepress.tools.doctor.facts import GIB, Facts, Gpu, collect
from olivepress.tools.doctor.needs import Needs, read_needs
from olivepress.tools.doctor.problems import problems

ROOT = Path(__file__).parents[2]
CPU_BOX = Facts(
    memory=24 * GIB,
    driver=None,
    driver_cuda=None,
    driver_error=None,
    gpus=(),
    torch="2.13.0+cpu",
    torch_cuda=None,
    onnxruntime="1.26.0",
    genai="0.14.1",
    providers=("AzureExecutionProvider", "CPUExecutionProvider"),
    disk_free=60 * GIB,
    cache="/repo/.dvc/cache",
    cache_free=60 * GIB,
    cache_apart=False,
    cache_linked=False,
    cache_symlinked=False,
    remote=None,
    lora_operator=None,
    webgpu="the plug-in is not installed: run make webgpu",
)
A10 = Gpu("NVIDIA A10", 23028 * 2**20, 22515 * 2**20, "8.6")
GPU_BOX = replace(
    CPU_BOX,
    driver="570.86.15",
    driver_cuda="12.8",
    gpus=(A10,),
    torch="2.10.0",
    torch_cuda="12.8",
    providers=("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
)
TINY = Needs(
    model="data/tiny-phi3",
    weights=6_800_000,
    cuda=(),
    providers={"cpu-int4": "CPUExecutionProvider"},
    lora_operator=(),
    gpu_memory=None,
    memory=13_600_000,
    disk=10_000_000,
)
PHI = Needs(
    model="hf://microsoft/Phi-3.5-mini-instruct@2fe1924",
    weights=7_642_159_104,
    cuda=("quantize.device", "finetune.device"),
    providers={"cuda-int4": "CUDAExecutionProvider", "cpu-int4": "CPUExecutionProvider"},
    lora_operator=("cuda-int4",),
    gpu_memory=7_642_159_104 + GIB,
    memory=None,
    disk=13_373_778_432,
)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            {"lora_operator": "olivepress-operators 1.0.0 is not installed: run `make operators`."},
            "targets.cuda-int4.lora_operator: olivepress-operators 1.0.0 is not installed: run `make operators`.",
        ),
        (
            {"gpus": (replace(A10, name="Tesla T4", capability="7.5"),)},
            "targets.cuda-int4.lora_operator: it needs compute capability 8.0, Tesla T4 has 7.5: set it to false.",
        ),
    ],
)
def test_the_lora_operator_has_needs_of_its_own(change, found):
    lines = problems(replace(GPU_BOX, **change), PHI)
    assert [line.startswith(found) for line in lines] == [True]
    assert problems(replace(GPU_BOX, **change), replace(PHI, lora_operator=())) == []


def test_a_fit_machine_has_no_problem():
    assert problems(CPU_BOX, TINY) == []
    assert problems(GPU_BOX, TINY) == []
    assert problems(GPU_BOX, PHI) == []


def test_a_webgpu_target_without_the_plug_in():
    needs = replace(TINY, providers={"webgpu-int4": "WebGpuExecutionProvider", **TINY.providers})
    assert problems(CPU_BOX, needs) == ["targets.webgpu-int4.provider: the plug-in is not installed: run make webgpu."]
    assert problems(replace(CPU_BOX, webgpu=None), needs) == []


def test_a_cuda_profile_without_a_gpu():
    found = problems(CPU_BOX, PHI)
    assert len(found) == 2
    assert "no GPU (no NVIDIA driver), and quantize.device, finetune.device asks for CUDA" in found[0]
    assert "--gpus all" in found[0]
    assert "targets.cuda-int4.provider: this onnxruntime has no CUDAExecutionProvider" in found[1]


@pytest.mark.parametrize(
    ("machine", "needs", "said"),
    [
        (replace(GPU_BOX, gpus=()), PHI, "no GPU (driver 570.86.15, but no device)"),
        (
            replace(GPU_BOX, driver=None, gpus=(), driver_error="Driver/library version mismatch"),
            PHI,
            "does not answer (Driver/library version mismatch)",
        ),
        (
            replace(GPU_BOX, driver="525.60.12"),
            PHI,
            "driver 525.60.12 is too old for CUDA 12: install 525.60.13 or newer",
        ),
        (replace(GPU_BOX, torch_cuda="13.0"), PHI, "driver 570.86.15 is too old for CUDA 13: install 580.65.06"),
        (replace(GPU_BOX, torch="2.13.0+cpu", torch_cuda=None), PHI, "torch 2.13.0+cpu is built without CUDA"),
        (
            replace(GPU_BOX, gpus=(replace(A10, memory=8 * GIB, free=8 * GIB),)),
            PHI,
            "needs at least 8.1 GiB, NVIDIA A10 has 8.0",
        ),
        (replace(GPU_BOX, gpus=(replace(A10, free=3 * GIB),)), PHI, "needs at least 8.1 GiB, only 3.0 GiB is free"),
        (
            replace(GPU_BOX, disk_free=24 * GIB),
            PHI,
            "needs at least 24.9 GiB here, DVC's cache included, 24.0 GiB is free",
        ),
        (replace(CPU_BOX, torch=None), TINY, "torch is not installed: run make setup"),
        (replace(CPU_BOX, genai=None), TINY, "onnxruntime-genai is not installed"),
        (
            CPU_BOX,
            replace(TINY, providers={"npu": "QNNExecutionProvider"}),
            "targets.npu.provider: this onnxruntime has no QNNExecutionProvider (it has AzureExecutionProvider",
        ),
        (CPU_BOX, replace(TINY, memory=25 * GIB), "memory: data/tiny-phi3 needs 25.0 GiB for its weights alone"),
    ],
)
def test_one_lack_is_one_line_that_names_it(machine, needs, said):
    found = problems(machine, needs)
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize("driver", ["525.60.13", "525.105.17", "535.54.03", "580.65.06"])
def test_any_driver_of_cuda_12_will_do(driver):
    assert problems(replace(GPU_BOX, driver=driver), PHI) == []


def test_a_second_larger_gpu_is_seen():
    small = replace(A10, memory=8 * GIB, free=8 * GIB)
    assert problems(replace(GPU_BOX, gpus=(small, A10)), PHI) == []


def test_where_the_cache_lies_counts():
    tight = replace(GPU_BOX, disk_free=13 * GIB)
    assert len(problems(tight, PHI)) == 1
    assert problems(replace(tight, cache_linked=True), PHI) == []
    apart = replace(tight, cache_apart=True, cache="/cache", cache_free=12 * GIB)
    (line,) = problems(apart, PHI)
    assert "12.5 GiB at /cache (DVC's cache), 12.0 GiB is free" in line


def test_an_unknown_size_is_no_problem():
    assert problems(GPU_BOX, replace(PHI, weights=None, gpu_memory=None, disk=None)) == []


def test_the_report_names_what_was_found():
    text = "\n".join(report(replace(GPU_BOX, remote="storage (s3://bucket)"), PHI))
    for said in ("570.86.15, CUDA up to 12.8", "NVIDIA A10, 22.5 GiB (22.0 GiB free)", "2.10.0, CUDA 12.8"):
        assert said in text
    for said in ("CUDAExecutionProvider", "storage (s3://bucket)", "60.0 GiB free", "7,642.2 MB of weights"):
        assert said in text


def test_what_a_profile_needs_is_read_from_its_parameters(tmp_path):
    tiny = read_needs(ROOT, params_of(ROOT, "tiny"))
    assert tiny.cuda == () and tiny.gpu_memory is None
    assert 6e6 < tiny.weights < 8e6
    assert tiny.memory == 2 * tiny.weights, "16-bit weights, float32 at work"
    params = params_of(ROOT, "tiny")
    params["finetune"] |= {"device": "cuda", "dtype": "bfloat16"}
    params["targets"] = {"gpu": {"provider": "CUDAExecutionProvider"}}
    shutil.copytree(ROOT / "data/tiny-phi3", tmp_path / "data/tiny-phi3")
    needs = read_needs(tmp_path, params)
    assert needs.cuda == ("finetune.device", "targets.gpu.provider")
    assert needs.gpu_memory == needs.weights + GIB
    assert needs.disk == needs.weights + 2 * (needs.weights // 4)
    (tmp_path / "models/onnx/gpu/model").mkdir(parents=True)
    assert read_needs(tmp_path, params).disk == needs.weights + needs.weights // 4, "what is there needs no room"


def test_a_base_of_another_run_is_not_taken_for_this_one(tmp_path):
    shutil.copytree(ROOT / "data/tiny-phi3", tmp_path / "models/base")
    (tmp_path / "models/inputs").mkdir()
    record = tmp_path / "models/inputs/base.json"
    params = params_of(ROOT, "tiny")
    params["model"]["source"] = "azureml://registries/azureml/models/Phi-3.5-mini-instruct/versions/4"
    record.write_text(json.dumps({"source": "data/tiny-phi3"}))
    assert read_needs(tmp_path, params).weights is None
    record.write_text(json.dumps({"source": params["model"]["source"]}))
    needs = read_needs(tmp_path, params)
    assert needs.weights and needs.disk == 2 * (needs.weights // 4), "the base is there already"


def test_a_hub_that_cannot_be_reached_leaves_the_size_unknown(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = [
        sys.executable,
        "-c",
        "from olivepress.tools.doctor.needs import *; from olivepress.tools.doctor.command import params_of; "
        "p = Path.cwd(); "
        "print(read_needs(p, params_of(p, 'phi-3.5-mini')).weights)",
    ]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None"


def test_this_machine_is_told_as_it_is():
    facts = collect(ROOT)
    assert facts.memory == psutil.virtual_memory().total
    assert "CPUExecutionProvider" in facts.providers
    assert abs(facts.disk_free - shutil.disk_usage(ROOT).free) < 2 * GIB
    installed = json.loads(
        subprocess.run(
            [sys.executable, "-c", "import torch, json; print(json.dumps([torch.__version__, torch.version.cuda]))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert [facts.torch, facts.torch_cuda] == installed
    smi = shutil.which("nvidia-smi")
    if smi:
        query = [smi, "--query-gpu=driver_version,name", "--format=csv,noheader"]
        listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
        assert [f"{facts.driver}, {gpu.name}" for gpu in facts.gpus] == listed
    else:
        assert facts.driver is None and facts.gpus == ()


def doctor(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "olivepress", "doctor", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_command_says_what_lacks_and_fails():
    assert doctor("--profile", "tiny").returncode == 0
    done = doctor("--profile", "phi-3.5-mini")
    if collect(ROOT).gpus:
        pytest.skip("this machine has a GPU: nothing lacks")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines and all(line.startswith("problem: ") for line in lines)
    assert "NVIDIA driver  none" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--profile", "huge"], "conf/profile/huge.yaml: no such profile (there: "), ([], "params.yaml: not there")],
)
def test_bad_input_is_one_clear_line(tmp_path, arguments, said):
    done = doctor(*arguments, cwd=ROOT if arguments else tmp_path)
    assert done.returncode == 1
    assert said in done.stderr and "Traceback" not in done.stderr


def test_params_that_do_not_fit_the_schema_are_refused(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(re.sub(r"  eval_steps: \d+\n", "", text))
    with pytest.raises(PressError, match=r"params\.yaml:\d+: finetune\.eval_steps: is missing"):
        params_of(tmp_path, None)


def test_a_symlinked_cache_is_a_problem_before_a_model_does_not_load():
    assert "cache.type is symlink" in "".join(problems(replace(GPU_BOX, cache_symlinked=True), PHI))
