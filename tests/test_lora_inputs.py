"""A projection with open inputs computes x·W without an adapter, x·W + (x·Aᵀ)·B with one of any rank."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from olivepress.core.errors import PressError
from olivepress.export.graph import load
from olivepress.export.passes.lora_inputs import LoraInputs
from olivepress.export.projections import Projection, projections, read_projections
from olivepress.export.surgery import apply

WIDTH, OUTPUTS = 8, 6
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((1, 3, WIDTH)).astype(np.float32)
WEIGHTS = {name: RANDOM.standard_normal((WIDTH, OUTPUTS)).astype(np.float32) for name in ("attn/o_proj", "mlp/up_proj")}


@pytest.fixture
def path(tmp_path):
    """Two products of x, one in either block; the graph's output is their sum."""
    x = ir.val("x", ir.DataType.FLOAT, [1, "n", WIDTH])
    weights, nodes = [], []
    for name, array in WEIGHTS.items():
        weights.append(ir.val(name, const_value=ir.tensor(array, name=name)))
        result = ir.val(f"{name}/out", ir.DataType.FLOAT, [1, "n", OUTPUTS])
        nodes.append(ir.node("MatMul", [x, weights[-1]], outputs=[result], name=f"/model/layers.3/{name}/MatMul"))
    y = ir.val("y", ir.DataType.FLOAT, [1, "n", OUTPUTS])
    nodes.append(ir.node("Add", [node.outputs[0] for node in nodes], outputs=[y], name="sum"))
    opsets = {"": 21, "com.microsoft": 1}
    graph = ir.Graph([x], [y], nodes=nodes, initializers=weights, opset_imports=opsets, name="g")
    ir.save(ir.Model(graph, ir_version=10), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def run(path, **adapter):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": X, **adapter})[0]


def test_without_an_adapter_not_a_bit_changes(path):
    expected = run(path)
    apply(path, LoraInputs("all"))
    np.testing.assert_array_equal(run(path), expected)


@pytest.mark.parametrize("rank", [1, 5])
def test_an_adapter_of_any_rank_is_added(path, rank):
    plain = run(path)
    apply(path, LoraInputs("all"))
    a, b = (RANDOM.standard_normal((rank, width)).astype(np.float32) for width in (WIDTH, OUTPUTS))
    key = "model.layers.3.up_proj.lora_{}.weight"
    found = run(path, **{key.format("A"): a, key.format("B"): b})
    np.testing.assert_allclose(found, plain + X @ a.T @ b, rtol=1e-4, atol=1e-5)


def test_which_projections_have_inputs(path):
    up, output = (Projection(3, name, WIDTH, OUTPUTS, "float32") for name in ("up_proj", "o_proj"))
    assert projections(load(path)) == {}
    with pytest.raises(PressError, match=r"the graph has no LoRA inputs\. Export it with"):
        read_projections(path)
    before = path.read_bytes()
    apply(path, LoraInputs("attention"))
    assert read_projections(path) == {(3, "o_proj"): output}
    path.write_bytes(before)
    apply(path, LoraInputs("all"))
    assert read_projections(path) == {(3, "o_proj"): output, (3, "up_proj"): up}


def test_a_graph_with_other_names_is_refused(path):
    model = load(path)
    for node in model.graph:
        node.name = f"other{node.name}"
    ir.save(model, path)
    before = path.read_bytes()
    with pytest.raises(PressError, match=r"model\.onnx: found no projection to give LoRA inputs; nodes are named"):
        apply(path, LoraInputs("all"))
    assert path.read_bytes() == before


def test_a_projection_may_be_what_the_graph_gives(path):
    model = load(path)
    projection = next(node for node in model.graph if node.name.endswith("up_proj/MatMul"))
    projection.outputs[0].name = "y"
    model.graph.outputs[0].name = "sum"
    model.graph.outputs[:] = projection.outputs
    ir.save(model, path)
    expected = run(path)
    apply(path, LoraInputs("all"))
    np.testing.assert_array_equal(run(path), expected)
