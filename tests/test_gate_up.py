"""Gate and up in one node compute, bit by bit, what the two computed, in a data file of the same size."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import external_data_helper, helper, numpy_helper

from olivepress.export.graph import load
from olivepress.export.passes.gate_up import PackGateUp
from olivepress.export.surgery import apply

WIDTH, INNER, GROUP, LAYERS = 64, 96, 32, 2
X = np.random.default_rng(9).standard_normal((1, 3, WIDTH)).astype(np.float32)


def make(path, *, zero_points=True, between=False, level=(4, 4), size_threshold=0):
    """LAYERS layers y = down(gate(x) * up(x)); ``between`` puts a tensor of its own between gate's and up's.

    ``level`` is the accuracy level of gate (and down), and of up.
    """
    random = np.random.default_rng(0)
    tensors, nodes, infos = [], [], []

    def projection(layer, name, source, inputs, outputs, level):
        node = f"/model/layers.{layer}/mlp/{name}/MatMulNBits"
        groups = inputs // GROUP
        parts = {
            "qweight": random.integers(0, 256, (outputs, groups, GROUP // 2), np.uint8),
            "scales": random.standard_normal(outputs * groups).astype(np.float32),
        }
        if zero_points:
            parts["qzeros"] = random.integers(0, 256, outputs * ((groups + 1) // 2), np.uint8)
        names = [f"model.layers.{layer}.mlp.{name}.MatMulNBits.{part}" for part in parts]
        tensors.extend(numpy_helper.from_array(value, n) for n, value in zip(names, parts.values(), strict=True))
        settings = {"K": inputs, "N": outputs, "bits": 4, "block_size": GROUP, "accuracy_level": level}
        out = f"{node}/output_0"
        nodes.append(helper.make_node("MatMulNBits", [source, *names], [out], node, domain="com.microsoft", **settings))
        infos.append(helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, [1, "n", outputs]))
        return out

    last = "x"
    for layer in range(LAYERS):
        gate = projection(layer, "gate_proj", last, WIDTH, INNER, level[0])
        if between:
            tensors.append(numpy_helper.from_array(random.standard_normal(INNER).astype(np.float32), f"own.{layer}"))
            nodes.append(helper.make_node("Mul", [gate, f"own.{layer}"], [f"{gate}/own"]))
        up = projection(layer, "up_proj", last, WIDTH, INNER, level[1])
        nodes.append(helper.make_node("Mul", [f"{gate}/own" if between else gate, up], [f"h{layer}"]))
        last = projection(layer, "down_proj", f"h{layer}", INNER, WIDTH, level[0])
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, "n", WIDTH])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, "n", WIDTH])],
        tensors,
        value_info=infos,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    external_data_helper.convert_model_to_external_data(
        model, location=f"{path.name}.data", size_threshold=size_threshold
    )
    onnx.save(model, path)


def run(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["y"], {"x": X})[0]


@pytest.mark.parametrize("zero_points", [True, False])
def test_the_same_numbers_from_one_node(tmp_path, zero_points):
    path = tmp_path / "model.onnx"
    make(path, zero_points=zero_points)
    data = path.with_name("model.onnx.data")
    expected, size = run(path), data.stat().st_size
    apply(path, PackGateUp())
    np.testing.assert_array_equal(run(path), expected)
    assert data.stat().st_size == size
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    graph = onnx.load(path).graph
    names = [node.name for node in graph.node if node.op_type == "MatMulNBits"]
    assert names == [
        f"/model/layers.{layer}/mlp/{name}/MatMulNBits"
        for layer in range(LAYERS)
        for name in ("gate_up_proj", "down_proj")
    ]
    packed = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    weights = "model.layers.1.mlp.gate_up_proj.MatMulNBits.qweight"
    assert packed[weights] == [2 * INNER, WIDTH // GROUP, GROUP // 2]
    assert not [name for name in packed if "gate_proj" in name or ("up_proj" in name and "gate_up" not in name)]


@pytest.mark.parametrize(
    "layout", [{"between": True}, {"size_threshold": 1 << 20}], ids=["another tensor between", "inside the graph"]
)
def test_where_the_weights_lie_is_all_the_same(tmp_path, layout):
    path = tmp_path / "model.onnx"
    make(path, **layout)
    expected = run(path)
    apply(path, PackGateUp())
    np.testing.assert_array_equal(run(path), expected)
    nodes = [node.name for node in onnx.load(path, load_external_data=False).graph.node]
    assert sum(name.endswith("gate_up_proj/MatMulNBits") for name in nodes) == LAYERS


def read_by_another(path):
    """Up's scales of layer 0 are an input of one more node."""
    model = onnx.load(path, load_external_data=False)
    scales = next(
        tensor.name for tensor in model.graph.initializer if tensor.name.endswith("0.mlp.up_proj.MatMulNBits.scales")
    )
    model.graph.node.append(helper.make_node("Identity", [scales], ["other"]))
    onnx.save(model, path)


def test_what_another_node_reads_stays_and_the_next_layer_is_packed(tmp_path):
    path = tmp_path / "model.onnx"
    make(path)
    read_by_another(path)
    expected = run(path)
    apply(path, PackGateUp())
    np.testing.assert_array_equal(run(path), expected)
    names = [node.name for node in onnx.load(path, load_external_data=False).graph.node if node.op_type == "Split"]
    assert names == ["/model/layers.1/mlp/gate_up_proj/MatMulNBits/Split"]


def test_what_is_computed_otherwise_stays_as_it_is(tmp_path):
    path = tmp_path / "model.onnx"
    make(path, level=(4, 1))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    apply(path, PackGateUp())
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_twice_is_once(tmp_path):
    path = tmp_path / "model.onnx"
    make(path)
    apply(path, PackGateUp())
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    apply(path, PackGateUp())
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_no_data_is_read_before_the_file_is_written(tmp_path):
    """Or else exporting 3.8 billion weights would hold them all: what the pass leaves are promises."""
    path = tmp_path / "model.onnx"
    make(path)
    model = load(path)
    path.with_name("model.onnx.data").unlink()
    assert PackGateUp()(model).modified
    weights = [tensor for name, tensor in model.graph.initializers.tensor_items() if "gate_up_proj" in name]
    assert len(weights) == 3 * LAYERS
    assert all(isinstance(tensor, ir.LazyTensor) for tensor in weights)
