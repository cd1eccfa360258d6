"""What `olivepress web` refuses before it writes anything, and where its parts from npm come from."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from olivepress.core.errors import PressError
from olivepress.web import floats, packages, site
from olivepress.web.floats import with_floats
from olivepress.web.graph import check_sizes, write_graph

FLOAT, FLOAT16, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64
K, N = 8, 6


def graph(folder, domain=None, extra=None, past=FLOAT, half=True, scale=None):
    """A projection with LoRA inputs as auto-opt lays them out for a CPU, over what stands for a base: x itself.

    ``domain``: of a foreign node before it; ``extra``: a further input; ``past``: type of the cache; ``half``: adapters
    in float16; ``scale``: a factor in the first product, which no export has.
    """
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    lora = FLOAT16 if half else FLOAT
    inputs = [
        value("input_ids", INT64, ["batch_size", "n"]),
        value("past_key_values.0.key", past, ["batch_size", 2, "past", 4]),
    ]
    inputs += [value("a.lora_A.weight", lora, ["rank", K]), value("a.lora_B.weight", lora, ["rank", N])]
    inputs += [value(extra, INT64, [1])] if extra else []
    nodes = [make("Cast", ["input_ids"], ["x"], to=FLOAT)]
    nodes += [make("Anything", ["x"], ["y"], domain=domain)] if domain else []
    fed = {}
    for name in ("a.lora_A.weight", "a.lora_B.weight"):
        nodes.append(make("Flatten", [name], [f"{name}/flat"], axis=1))
        if half:
            nodes.append(make("Cast", [f"{name}/flat"], [f"{name}/wide"], to=FLOAT))
        fed[name[2:8]] = nodes[-1].output[0]
    factor = {} if scale is None else {"alpha": scale}
    nodes.append(make("FusedMatMul", ["x", fed["lora_A"]], ["low"], "A", domain="com.microsoft", transB=1, **factor))
    nodes.append(make("MatMul", ["low", fed["lora_B"]], ["logits"], "B"))
    defaults = [
        onnx.helper.make_tensor(f"a.lora_{side}.weight", lora, [0, size], []) for side, size in (("A", K), ("B", N))
    ]
    made = onnx.helper.make_graph(nodes, "g", inputs, [value("logits", FLOAT, None)], defaults)
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    opsets += [onnx.helper.make_opsetid(domain, 1)] if domain else []
    onnx.save(onnx.helper.make_model(made, opset_imports=opsets, ir_version=10), str(folder / "model.onnx"))


@pytest.mark.parametrize("half", [True, False])
def test_lora_inputs_have_to_be_fed_and_are_laid_out_for_webgpu(tmp_path, half):
    graph(tmp_path, half=half)
    (tmp_path / "out").mkdir()
    described, turned = write_graph(tmp_path, tmp_path / "out")
    assert described == {
        "graphs": {"webgpu": "model.onnx", "wasm": "model.onnx"},
        "weights": [],
        "lora": {"a.lora_A.weight": [K, 1], "a.lora_B.weight": [1, N]},
        "past": {"past_key_values.0.key": [1, 2, 0, 4]},
        "fed": ["input_ids"],
    }
    assert turned == {"a.lora_A.weight"}
    written = onnx.load(str(tmp_path / "out/model.onnx")).graph
    assert not written.initializer
    assert [node.op_type for node in written.node] == ["Cast", "MatMul", "MatMul"]
    # and it computes what it did
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(3, size)).astype("float16" if half else "float32") for size in (K, N))
    ids = random.integers(0, 9, (1, K))
    names = ("a.lora_A.weight", "a.lora_B.weight")
    expected, found = (
        run(path / "model.onnx", input_ids=ids, **dict(zip(names, values, strict=True)))
        for path, values in (
            (tmp_path, (a, b)),
            (tmp_path / "out", (np.ascontiguousarray(a.T, "float32"), b.astype("float32"))),
        )
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def quantized(bits, blocks, zeros=True, block=32, rows=6):
    """A model that is one MatMulNBits of random weights."""
    random, k = np.random.default_rng(1), 32 * blocks
    parts = {
        "q": random.integers(0, 256, (rows, blocks, block * bits // 8), "uint8"),
        "s": random.uniform(0.1, 1, rows * blocks).astype("float32"),
        "z": random.integers(0, 256, rows * -(-blocks * bits // 8), "uint8"),
    }
    names = ["x", "q", "s", *(["z"] if zeros else [])]
    sizes = {"K": k, "N": rows, "bits": bits, "block_size": block, "accuracy_level": 1}
    node = onnx.helper.make_node("MatMulNBits", names, ["logits"], "P", domain="com.microsoft", **sizes)
    value = onnx.helper.make_tensor_value_info
    values = [onnx.numpy_helper.from_array(parts[name], name) for name in names[1:]]
    made = onnx.helper.make_graph([node], "g", [value("x", FLOAT, [1, k])], [value("logits", FLOAT, None)], values)
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    return onnx.helper.make_model(made, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_that_become_floats_at_load_give_the_same_products(bits):
    model = quantized(bits, 4)
    found = with_floats(model)
    assert [node.op_type for node in found.graph.node] == ["Reshape", "DequantizeLinear", "Transpose", "MatMul"]
    x = np.random.default_rng(2).normal(size=(1, 128)).astype("float32")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    one, other = (
        onnxruntime.InferenceSession(each.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for each in (model, found)
    )
    np.testing.assert_allclose(other.run(None, {"x": x})[0], one.run(None, {"x": x})[0], rtol=1e-4, atol=1e-4)


def test_what_has_no_such_floats_is_left(monkeypatch):
    assert with_floats(quantized(4, 3)) is None  # zero points of one and a half bytes a row
    assert with_floats(quantized(4, 4, zeros=False)) is None
    monkeypatch.setattr(floats, "LARGEST", 4 * 6 * 128 - 1)
    assert with_floats(quantized(4, 4)) is None  # too many


def run(path, **fed):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"past_key_values.0.key": np.zeros((1, 2, 0, 4), "float32"), **fed})[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"domain": "olivepress"}, "operators of olivepress"),
        ({"extra": "pixel_values"}, "the input pixel_values"),
        ({"past": FLOAT16}, r"past_key_values\.0\.key is float16; the page feeds float32"),
        ({"scale": 2.0}, r"A has \{.*'alpha': 2.0.*\}, where the export writes transB alone"),
    ],
)
def test_a_graph_that_no_browser_runs_is_refused(tmp_path, change, said):
    graph(tmp_path, **change)
    with pytest.raises(PressError, match=said):
        write_graph(tmp_path, tmp_path)


def test_weights_beyond_what_a_browser_holds_are_refused(tmp_path):
    graph(tmp_path)
    model = onnx.load(str(tmp_path / "model.onnx"))
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [0.0])
    weight.ClearField("float_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="model.onnx.data")
    model.graph.initializer.append(weight)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with (tmp_path / "model.onnx.data").open("wb") as file:
        file.truncate(2**31)  # sparse
    with pytest.raises(PressError, match=r"2,147,483,648 bytes; a browser's WebAssembly takes at most"):
        check_sizes(tmp_path, ["model.onnx.data"])


def test_another_providers_target_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    decoder = {"filename": "model.onnx", "session_options": {"provider_options": [{"cuda": {}}]}}
    (tmp_path / "model/model.onnx").write_bytes(b"")
    numbers = {"context_length": 8, "vocab_size": 8, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = {"model": {**numbers, "type": "phi3", "decoder": decoder}, "search": {}}
    (tmp_path / "model/genai_config.json").write_text(json.dumps(config))
    with pytest.raises(PressError, match="is for cuda; the page takes a CPU target"):
        site.write_site(tmp_path, tmp_path / "web", title="t", template="chat")
    assert not (tmp_path / "web").exists()


def test_a_package_with_another_hash_is_refused(tmp_path, monkeypatch):
    jinja = next(package for package in packages.PACKAGES if package.name.endswith("jinja"))
    monkeypatch.setattr(packages, "PACKAGES", (replace(jinja, integrity="sha512-AAAA"),))
    with pytest.raises(PressError, match=r"jinja@.*expected sha512-AAAA\. Nothing is written"):
        packages.write_packages(tmp_path / "packages")
    assert not list((tmp_path / "packages").iterdir())


def test_without_npm_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PressError, match="apt-get install nodejs npm"):
        packages.write_packages(tmp_path / "packages")
