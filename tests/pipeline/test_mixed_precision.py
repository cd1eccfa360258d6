"""Mixed precision: layers whose rounding costs most get more bits, and the checkpoint and its export hold them."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from exported import PROVIDER, TARGET
from safetensors.torch import load_file
from tiny_models import make_checkpoint, random_blocks, relative_error, torch_logits

from olivepress.core.artifact import MODEL, OPERATORS
from olivepress.core.errors import PressError
from olivepress.export.check import check
from olivepress.export.model_builder import export
from olivepress.export.operator_library import copy_libraries
from olivepress.export.passes.decoder_layers import expand
from olivepress.export.surgery import transform
from olivepress.modeling.dequantize import load_model
from olivepress.quantize.awq import quantize_awq
from olivepress.quantize.error_feedback import round_with_feedback
from olivepress.quantize.grid import to_grid
from olivepress.quantize.mixed_precision import Format, Unit, choose_formats, formats, measure, spend
from olivepress.quantize.olive import quantize_olive
from stages.quantize import main

pytestmark = pytest.mark.usefixtures("one_thread")

LEAST, SMALL, EIGHT = formats(64)
COMMON = {"blocks": random_blocks(6, 64), "group_size": 64, "trust_remote_code": False}
UNITS = ["down_proj", "gate_proj up_proj", "k_proj q_proj v_proj", "o_proj"]


def test_formats_and_what_they_take():
    assert formats(128) == [Format(4, 128), Format(4, 64), Format(4, 32), Format(8, 128)]
    assert formats(32) == [Format(4, 32), Format(8, 32)]
    assert Format(4, 32).bits_per_weight(zero_point=True) == 4.625
    assert Format(8, 64).bits_per_weight(zero_point=False) == 8.25


def test_bits_go_where_they_save_most():
    """A unit that costs much gets 8 bits at once, one that smaller groups help gets these, the third nothing."""
    costs = {"a": (9.0, 8.9, 0.1), "b": (2.0, 1.0, 0.9), "c": (0.1, 0.1, 0.1)}
    units = [Unit((name,), 100, dict(zip((LEAST, SMALL, EIGHT), cost, strict=True))) for name, cost in costs.items()]
    found = {unit.layers[0]: kind for unit, kind in spend(units, 5.8, zero_point=True)}
    assert found == {"a": EIGHT, "b": SMALL, "c": LEAST}
    sizes = [kind.bits_per_weight(zero_point=True) for kind in found.values()]
    assert sum(sizes) / 3 <= 5.8
    least = {kind for _, kind in spend(units, LEAST.bits_per_weight(zero_point=True), zero_point=True)}
    assert least == {LEAST}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed") / "base"
    make_checkpoint("llama", folder)
    return folder


def test_what_a_layer_costs_is_the_divergence_that_its_rounding_makes(base):
    """Unit by unit beside the KL divergence from the model itself, which is measured by rounding that unit alone."""
    model = load_model(base, dtype=torch.float32)
    blocks = random_blocks(12, 128, seed=3)
    units = measure(model, blocks, [LEAST], zero_point=True)
    names = [" ".join(sorted(name.rpartition(".")[2] for name in unit.layers)) for unit in units]
    assert sorted(names) == sorted(UNITS * 2)
    modules = dict(model.named_modules())
    rows = torch.tensor(blocks)
    with torch.inference_mode():
        expected = model(rows).logits.log_softmax(-1)
        predicted, actual = [], []
        for unit in units:
            weights = {name: modules[name].weight.data for name in unit.layers}
            for name, weight in weights.items():
                modules[name].weight.data = to_grid(weight, 64, zero_point=True)[0]
            found = model(rows).logits.log_softmax(-1)
            for name, weight in weights.items():
                modules[name].weight.data = weight
            actual.append(float((expected.exp() * (expected - found)).sum(-1).mean()))
            predicted.append(unit.costs[LEAST])
    ratios = np.array(predicted) / np.array(actual)
    # errors that go together over tokens, as those of values do in attention, count as if they did not
    assert 0.3 < ratios.min() <= ratios.max() < 1.5, ratios
    assert 0.8 < np.median(ratios) < 1.2, ratios


@pytest.mark.parametrize(("algorithm", "zero_point"), [("awq", True), ("awq", False), ("rtn", True), ("kquant", True)])
def test_the_checkpoint_has_the_formats_and_is_better(base, tmp_path, algorithm, zero_point):
    settings = {**COMMON, "zero_point": zero_point}
    chosen = choose_formats(base, average_bits=5.0, device="cpu", **settings)
    plain = load_model(base, dtype=torch.float32)
    errors, ids = {}, random_blocks(4, 64, seed=5)
    for name, kinds in (("alike", None), ("mixed", chosen)):
        if algorithm == "awq":
            quantize_awq(base, tmp_path / name, device="cpu", exact=False, formats=kinds, **settings)
        else:
            quantize_olive(base, tmp_path / name, algorithm=algorithm, bits=4, formats=kinds, **settings)
        model = load_model(tmp_path / name, dtype=torch.float32)
        errors[name] = sum(relative_error(torch_logits(model, row), torch_logits(plain, row)) for row in ids)
    assert errors["mixed"] < 0.9 * errors["alike"]
    tensors = load_file(tmp_path / "mixed/model.safetensors")
    assert {kind for kind in chosen.values()} == {SMALL, EIGHT}
    packed = 0
    for name in (key.removesuffix(".qweight") for key in tensors if key.endswith(".qweight")):
        kind = chosen.get(name, LEAST)
        outputs, groups = tensors[f"{name}.scales"].shape
        assert tensors[f"{name}.scales"].dtype == torch.float16
        assert tuple(tensors[f"{name}.qweight"].shape) == (outputs, groups * kind.group_size * kind.bits // 8)
        assert (f"{name}.qzeros" in tensors) is zero_point
        packed += sum(tensors[f"{name}.{part}"].nbytes for part in ("qweight", "scales"))
        packed += tensors[f"{name}.qzeros"].nbytes if zero_point else 0
    weights = sum(m.weight.numel() for n, m in plain.named_modules() if ".layers." in n and hasattr(m, "in_features"))
    assert 8 * packed / weights <= 5.0
    for module, settings_of_one in json.loads((tmp_path / "mixed/config.json").read_text())["quantization_config"][
        "overrides"
    ].items():
        assert settings_of_one.get("bits", 4) == chosen[module].bits
        assert settings_of_one.get("group_size", 64) == chosen[module].group_size


def test_awq_writes_the_numbers_that_it_found(base, tmp_path):
    """The weights of a layer of 8 bits are the base's to half a step; norms before it are as they were."""
    chosen = {f"model.layers.0.self_attn.{name}_proj": EIGHT for name in "qkv"}
    quantize_awq(base, tmp_path / "out", device="cpu", exact=False, formats=chosen, zero_point=True, **COMMON)
    before, after = (load_model(folder, dtype=torch.float32).state_dict() for folder in (base, tmp_path / "out"))
    norm = "model.layers.0.input_layernorm.weight"
    assert torch.equal(before[norm], after[norm])
    name = "model.layers.0.self_attn.k_proj.weight"
    groups = before[name].view(-1, 64)
    steps = (groups.amax(1) - groups.amin(1)) / 255
    # error feedback goes beyond the nearest step to make up for others
    assert ((after[name] - before[name]).view(-1, 64).abs().amax(1) < 3 * steps).all()


@pytest.mark.parametrize("architecture", ["llama", "phi3", "qwen2"])
def test_the_export_agrees_with_pytorch(tmp_path, architecture):
    """In every layer, portable and with the native operators, whose products have 8 bits, too."""
    make_checkpoint(architecture, tmp_path / "base")
    chosen = choose_formats(tmp_path / "base", average_bits=5.2, device="cpu", zero_point=True, **COMMON)
    assert EIGHT in chosen.values()
    common = {**COMMON, "zero_point": True, "formats": chosen}
    quantize_awq(tmp_path / "base", tmp_path / "quantized", device="cpu", exact=False, **common)
    out = tmp_path / "onnx"
    export(tmp_path / "quantized", out, replace(TARGET, lm_head="float"))
    assert transform(out / MODEL, "all", operators=PROVIDER, both=True).operators
    copy_libraries(out)
    errors = check(tmp_path / "quantized", out, PROVIDER)
    assert errors["layers"] < 1e-5
    for name in (MODEL, OPERATORS):
        graph = onnx.load(out / name, load_external_data=False)
        expand(graph)
        nodes = [node for node in graph.graph.node if "NBits" in node.op_type]
        found = {tuple(a.i for a in node.attribute if a.name in ("bits", "block_size")) for node in nodes}
        assert {(kind.bits, kind.group_size) for kind in chosen.values()} <= found


def test_error_feedback_changes_the_output_least():
    """Beside rounding to the nearest on the same grid, on inputs whose channels go together."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 128, generator=generator)
    inputs = torch.randn(600, 128, generator=generator) @ torch.randn(128, 128, generator=generator)
    nearest, scales, zeros = to_grid(weight, 32, zero_point=True)
    integers = round_with_feedback(weight, inputs.T @ inputs, scales, zeros, bits=4)
    assert torch.equal(integers, integers.round().clamp(0, 15))

    def on_grid(integers: torch.Tensor) -> torch.Tensor:
        return ((integers.view(48, 4, 32) - zeros[..., None]) * scales[..., None]).view(48, 128)

    errors = [float(((each - weight) @ inputs.T).square().sum()) for each in (on_grid(integers), nearest)]
    assert errors[0] < 0.6 * errors[1]
    # inputs that have nothing to do with each other: nothing can be made up for
    alone = round_with_feedback(weight, torch.eye(128), scales, zeros, bits=4)
    assert torch.allclose(on_grid(alone), nearest, atol=1e-5)


def test_an_average_that_no_format_has_is_refused(base, tmp_path):
    with pytest.raises(PressError, match=r"found 4\.2, expected at least 4\.312"):
        choose_formats(base, average_bits=4.2, device="cpu", zero_point=True, **COMMON)
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "a"}\n')
    command = [f"--base={base}", "--average-bits=5", f"--calibration-data={text}", f"--out={tmp_path / 'out'}"]
    command += [f"--{kind}={tmp_path / f'{kind}.json'}" for kind in ("quality", "cost")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code
    assert "quantize.average_bits: gives 8 bits to some layers" in done.output


def test_a_mixed_head_exports_and_a_wrong_row_of_it_is_found(tmp_path, monkeypatch):
    """Rows of 4 bits move the logits of random tokens too far to be compared by them; they are compared as rows."""
    monkeypatch.setattr("olivepress.export.passes.mixed_head.MixedHead.__init__.__defaults__", (128,))
    make_checkpoint("qwen2", tmp_path / "base")  # tied
    quantize_olive(tmp_path / "base", tmp_path / "int4", algorithm="rtn", bits=4, zero_point=True, **COMMON)
    out = tmp_path / "onnx"
    export(tmp_path / "int4", out, replace(TARGET, lm_head="mixed"))
    assert transform(out / MODEL, "all", embedding="mixed", operators=PROVIDER, both=True).operators
    copy_libraries(out)
    errors = check(tmp_path / "int4", out, PROVIDER)
    assert errors["layers"] < 1e-5
    assert errors["logits"] < 0.15
    model = onnx.load(out / MODEL, load_external_data=False)
    (lookup,) = [node for node in model.graph.node if node.name == "/model/embed_tokens/Where"]
    lookup.input[1], lookup.input[2] = lookup.input[2], lookup.input[1]
    onnx.save(model, out / MODEL)
    with pytest.raises(PressError, match=r"model\.onnx: the embedding's rows differ from PyTorch's by"):
        check(tmp_path / "int4", out, PROVIDER)
