"""Weights in 16 bits: which of them, that nothing is computed otherwise, and that ONNX Runtime folds the casts."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from test_gate_up import INNER, LAYERS, WIDTH, X, make

from olivepress.export.graph import load
from olivepress.export.passes.lora_inputs import LoraInputs
from olivepress.export.passes.sixteen_bits import SixteenBits
from olivepress.export.surgery import apply


@pytest.fixture
def path(tmp_path):
    """Layers of MatMulNBits whose scales are float16's numbers, as those of an AWQ checkpoint are."""
    path = tmp_path / "model.onnx"
    make(path)
    edit(path, lambda scales: scales.astype(np.float16).astype(np.float32))
    return path


def edit(path, change, only=""):
    """Put other scales in the place of those of the nodes that have ``only`` in their names."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".scales") and only in tensor.name:
            array = change(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))
    path.with_name("model.onnx.data").unlink()
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)


def run(path, options=None):
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": X})[0]


def types(path):
    return {
        value.name: value.dtype.name
        for value in load(path).graph.initializers.values()
        if value.name.endswith(".scales")
    }


def test_scales_of_float16_lose_nothing_and_half_of_their_bytes(path):
    expected, data = run(path), path.with_name("model.onnx.data")
    before = data.stat().st_size
    apply(path, SixteenBits())
    np.testing.assert_array_equal(run(path), expected)
    assert set(types(path).values()) == {"FLOAT16"}
    assert data.stat().st_size == before - 2 * LAYERS * 3 * WIDTH * INNER // 32


def test_onnx_runtime_folds_the_casts_when_it_loads_the_model(path, tmp_path):
    """Kernels pack constant weights when a session starts: behind a Cast that is computed later they would not."""
    apply(path, SixteenBits())
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    run(path, options)
    graph = onnx.load(tmp_path / "optimized.onnx").graph
    assert not [node for node in graph.node if node.op_type == "Cast"]
    constants = {tensor.name for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    assert len(products) == 3 * LAYERS
    assert all(constants.issuperset(node.input[1:]) for node in products)


def test_scales_between_those_of_float16_move_by_half_of_its_last_bit_at_most(path):
    edit(path, lambda scales: scales * np.float32(1.0001))
    before = {name: value.const_value.numpy() for name, value in load(path).graph.initializers.items()}
    apply(path, SixteenBits())
    after = {name: value.const_value.numpy() for name, value in load(path).graph.initializers.items()}
    for name in types(path):
        np.testing.assert_allclose(after[name], before[name], rtol=2**-11)


@pytest.mark.parametrize("size", [1e-6, 1e5], ids=["below its normal numbers", "above its largest"])
def test_scales_that_float16_does_not_hold_stay(path, size):
    edit(path, lambda scales: scales * np.float32(size), only="layers.1.mlp.up_proj")
    expected = run(path)
    apply(path, SixteenBits())
    np.testing.assert_array_equal(run(path), expected)
    stayed = [name for name, dtype in types(path).items() if dtype == "FLOAT"]
    assert stayed == ["model.layers.1.mlp.up_proj.MatMulNBits.scales"]


def test_groups_of_zeros_have_a_scale_of_zero(path):
    edit(path, np.zeros_like)
    apply(path, SixteenBits())
    assert set(types(path).values()) == {"FLOAT16"}
    assert not run(path).any()


def test_twice_is_once(path):
    apply(path, SixteenBits())
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    apply(path, SixteenBits())
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize(("dtype", "stored"), [("float16", "FLOAT16"), ("float32", "FLOAT")])
def test_a_float_weight_is_stored_in_the_bits_that_hold_it(tmp_path, dtype, stored):
    """A head that is not quantized."""
    path = tmp_path / "model.onnx"
    weight = np.random.default_rng(0).standard_normal((WIDTH, INNER)).astype(dtype).astype(np.float32)
    shapes = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy"]
    product = helper.make_node("MatMul", ["x", "w"], ["y"], "/lm_head/MatMul")
    graph = helper.make_graph([product], "g", shapes[:1], shapes[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    expected = run(path)
    apply(path, SixteenBits())
    np.testing.assert_array_equal(run(path), expected)
    assert load(path).graph.initializers["w"].dtype.name == stored


def test_the_defaults_of_lora_inputs_stay_what_an_adapter_file_has(path):
    apply(path, LoraInputs("all"))
    inputs = [(value.name, value.type.tensor_type.elem_type) for value in onnx.load(path).graph.input]
    apply(path, SixteenBits())
    assert [(value.name, value.type.tensor_type.elem_type) for value in onnx.load(path).graph.input] == inputs
    assert len(inputs) == 1 + 2 * 3 * LAYERS
