"""Gate and up in one node compute, bit by bit, what the two computed, in a data file of the same size."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import external_data_helper, helper, numpy_helper

from olivepress.gate_up import pack_gate_up

WIDTH, INNER, GROUP, LAYERS = 64, 96, 32, 2
X = np.random.default_rng(9).standard_normal((1, 3, WIDTH)).astype(np.float32)


def make(path, *, zero_points=True, between=False, level=(4, 4), size_threshold=0):
    """LAYERS layers y = down(gate(x) * up(x)); ``between`` puts a tensor of its own between gate's and up's."""
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
    assert pack_gate_up(path) == LAYERS
    np.testing.assert_array_equal(run(path), expected)
    assert data.stat().st_size == size
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
    "layout",
    [{"between": True}, {"level": (4, 1)}, {"size_threshold": 1 << 20}],
    ids=["another tensor between", "computed otherwise", "inside the graph"],
)
def test_what_is_laid_out_otherwise_stays_as_it_is(tmp_path, layout):
    path = tmp_path / "model.onnx"
    make(path, **layout)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    if "size_threshold" in layout:
        (tmp_path / "model.onnx.data").touch()
        before["model.onnx.data"] = b""
    assert pack_gate_up(path) == 0
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_twice_is_once(tmp_path):
    path = tmp_path / "model.onnx"
    make(path)
    assert pack_gate_up(path) == LAYERS
    before = path.read_bytes(), path.with_name("model.onnx.data").read_bytes()
    assert pack_gate_up(path) == 0
    assert (path.read_bytes(), path.with_name("model.onnx.data").read_bytes()) == before
