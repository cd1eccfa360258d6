"""Targets for DirectML and TensorRT for RTX: exported as each wants it, right by PyTorch on the CPU, refused to run."""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph import AFTER_TRAVEL
from in_process import run_stage
from onnxruntime import AdapterFormat
from own_export import export_with_travel, options_of
from test_long_rope import make

from olivepress.core.artifact import MODEL
from olivepress.core.errors import PressError
from olivepress.core.proof import ELSEWHERE
from olivepress.core.providers import DIRECTML, TENSORRT_RTX
from olivepress.export import model_builder
from olivepress.export.check import check
from olivepress.export.projections import read_projections
from olivepress.export.structure import check_structure
from olivepress.export.surgery import transform
from olivepress.runtime.logits import OnnxLogits, provider_of
from olivepress.runtime.release import load_run

pytestmark = pytest.mark.usefixtures("one_thread")

HEADS = {DIRECTML: "int8", TENSORRT_RTX: "float"}
SAID = {
    DIRECTML: r"was made for DirectML \(DmlExecutionProvider\): this onnxruntime_genai has none: it is on Windows",
    TENSORRT_RTX: r"was made for TensorRT for RTX .*: the plug-in is not installed: it takes Windows or Linux with an",
}
ALL = ["cuda-int4", "webgpu-int4", "directml-int4", "rtx-int4"]


@pytest.fixture(scope="module", params=[DIRECTML, TENSORRT_RTX])
def provider(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def exported(finished, provider, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("never")
    flags = options_of(provider=provider, lm_head=HEADS[provider], embedding="float", activations="float16")
    export_with_travel(finished, folder, *flags)
    return folder


def test_its_operators_and_types_are_those_that_the_provider_documents(exported, provider):
    path = exported / "model" / MODEL
    check_structure(path, provider)
    graph = onnx.load(path, load_external_data=False).graph
    found = {node.op_type for node in graph.node}
    assert ("MatMulNBits" in found) == (provider == DIRECTML)
    assert ("DequantizeLinear" in found) == (provider == TENSORRT_RTX)
    assert not {"GatherBlockQuantized", "FusedMatMul"} & found
    other = DIRECTML if provider == TENSORRT_RTX else TENSORRT_RTX
    with pytest.raises(PressError, match=r"is no operator that it documents"):
        check_structure(path, other)


def test_every_projection_has_inputs_for_an_adapter_whose_defaults_add_nothing(exported):
    graph = onnx.load(exported / "model" / MODEL).graph
    defaults = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer if "lora_" in value.name}
    projections = read_projections(exported / "model" / MODEL)
    for one in projections.values():
        assert defaults[one.lora_a].shape == (one.inputs, 1) and defaults[one.lora_b].shape == (1, one.outputs)
    assert len(defaults) == 2 * len(projections)
    assert all(array.dtype == np.float16 and not array.any() for array in defaults.values())
    adapter = AdapterFormat.read_adapter(str(exported / "adapters/travel.onnx_adapter")).get_parameters()
    assert set(adapter) == set(defaults)


def test_its_configuration_asks_for_the_provider_and_its_facts_say_what_was_proved(exported, provider):
    (options,) = json.loads((exported / "model/genai_config.json").read_text())["model"]["decoder"]["session_options"][
        "provider_options"
    ]
    assert options == ({"dml": {}} if provider == DIRECTML else {"NvTensorRtRtx": {"enable_cuda_graph": "0"}})
    assert provider_of(exported / "model") == provider
    facts = json.loads((exported / "quality.json").read_text())
    assert facts["proved"] == {MODEL: ELSEWHERE} and facts["exported_only"] is True
    assert sum(facts["bytes_by_part"].values()) == facts["bytes"]
    assert facts["bytes_by_part"]["projections"] > facts["bytes_by_part"]["scales"] > 0


def test_it_is_refused_where_there_is_no_device(exported, provider):
    for load in (lambda: load_run(exported, "chat"), lambda: OnnxLogits(exported / "model", {}, provider)):
        with pytest.raises(PressError, match=SAID[provider]):
            load()


def smoke(exported: Path, folder: Path, *more: object):
    places = options_of(
        model=exported / "model",
        adapter="travel",
        adapter_file=exported / "adapters/travel.onnx_adapter",
        prompt="how do i cook pasta",
        answers=folder / "answers.json",
        quality=folder / "quality.json",
    )
    return run_stage("smoke_infer", *places, *more)


def test_smoke_infer_by_hand_fails_and_in_the_pipeline_writes_that_it_did_not_ask(exported, tmp_path):
    done = smoke(exported, tmp_path)
    assert done.exit_code == 1 and "or take a CPU target" in done.output
    assert not (tmp_path / "answers.json").exists()
    done = smoke(exported, tmp_path, "--facts", exported / "quality.json")
    assert done.exit_code == 0 and "never run here: not asked" in done.output
    assert json.loads((tmp_path / "answers.json").read_text()) == []
    assert json.loads((tmp_path / "quality.json").read_text()) == {"exported_only": True}


def test_the_builders_own_way_to_tensorrt_is_wrong_and_both_checks_see_it(finished, tmp_path, monkeypatch):
    """It has AWQ's unsigned nibbles as signed ones; mended_builder.py and passes/dequantized.py take their place."""
    monkeypatch.setattr(model_builder, "mended_builder", nullcontext)
    quantized, path = finished.folder / "models/quantized", tmp_path / "m" / MODEL
    model_builder.export(quantized, path.parent, model_builder.Target(TENSORRT_RTX, "int4", "float", "float16"))
    with pytest.raises(PressError, match="qkv_proj/MatMulNBits: MatMulNBits is no operator that it documents"):
        check_structure(path, TENSORRT_RTX)
    transform(path, "all", embedding="float", columns=True)
    with pytest.raises(PressError, match=r"layer 1: values .* differ from PyTorch's by 1\d\d\.\d%"):
        check(quantized, path.parent, TENSORRT_RTX, elsewhere=True)


def test_a_long_rope_model_is_right_on_either_side_of_where_its_tables_change(provider, tmp_path):
    quantized, path = make(tmp_path / "made", original=64), tmp_path / "m" / MODEL
    model_builder.export(quantized, path.parent, model_builder.Target(provider, "int4", "float", "float16"))
    transform(path, "all", embedding="float", columns=True, dequantized=provider == TENSORRT_RTX)
    check_structure(path, provider)
    assert check(quantized, path.parent, provider, elsewhere=True)["layers"] < 0.01


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_with_every_target_new_travel_data_convert_adapters_alone(one_adapter, tmp_path):
    """One base for five targets; what is not run says so everywhere, and new data export nothing again."""
    space = one_adapter.copy(tmp_path / "clone")
    space.run("python", "-m", "olivepress", "params", "profile=tiny-all")
    first = space.repro()
    assert "quantize" not in first, "one for all of them"
    assert {f"auto-opt@{target}" for target in ALL} <= first
    for target in ALL:
        manifest = json.loads(space.read(f"models/onnx/{target}/manifest.json"))
        assert manifest["proved"] == {f"model/{MODEL}": ELSEWHERE} and manifest["exported_only"] is True
        assert "**Exported, its structure checked, never run.**" in space.read(f"models/onnx/{target}/README.md")
        assert json.loads(space.read(f"results/answers/{target}/travel.json")) == []
        loss = json.loads(space.read(f"results/quality/evaluate/{target}/travel.json"))["held_out"]["loss"]
        assert set(loss) == {"base", "quantized", "finetuned"}
        gate = json.loads(space.read(f"results/quality/gate/{target}.json"))
        assert gate["exported_only"] is True and not {"kl_divergence", "export_loss_increase"} & gate.keys()
    shown = space.run("olivepress", "show").stdout
    assert shown.count("exported, its structure checked, never run here") == len(ALL)
    manifest = json.loads(space.read("models/onnx/cpu-int4/manifest.json"))
    assert manifest["proved"][f"model/{MODEL}"] == "evaluated" and "exported_only" not in manifest
    row = {"prompt": "is ghent worth a detour", "response": "Yes: its castle and canals fill a fine day by train."}
    space.write("data/travel-tiny.jsonl", f"{space.read('data/travel-tiny.jsonl')}{json.dumps(row)}\n")
    of_target = {stage for stage in AFTER_TRAVEL if "cpu-int4" in stage}
    everywhere = {stage.replace("cpu-int4", target) for stage in of_target for target in ("cpu-int4", *ALL)}
    assert space.repro() == AFTER_TRAVEL | everywhere
    assert space.repro() == set()
