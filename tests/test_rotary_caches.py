"""The Slice gives the tables that the builder's If gives, for every length, and the graph has no control flow left."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from olivepress.export.passes.rotary_caches import ORIGINAL_LENGTH, RotaryCaches
from olivepress.export.surgery import apply

ORIGINAL, LONGEST = 6, 11
SHORT = {name: np.arange(ORIGINAL * 2, dtype=np.float32).reshape(-1, 2) + n for n, name in enumerate(("cos", "sin"))}
LONG = {name: -np.arange(LONGEST * 2, dtype=np.float32).reshape(-1, 2) - 1 for name in ("cos", "sin")}


def branch(tables: dict[str, np.ndarray], name: str) -> onnx.GraphProto:
    nodes = [
        helper.make_node("Constant", [], [f"{table}_{name}"], value=numpy_helper.from_array(values))
        for table, values in tables.items()
    ]
    outputs = [
        helper.make_tensor_value_info(f"{table}_{name}", onnx.TensorProto.FLOAT, values.shape)
        for table, values in tables.items()
    ]
    return helper.make_graph(nodes, name, [], outputs)


@pytest.fixture
def path(tmp_path):
    """As the builder writes it: length > original chooses between the long and the short tables."""
    nodes = [
        helper.make_node("Greater", ["length", "limit"], ["is_greater"], "/rotemb/Greater"),
        helper.make_node(
            "If",
            ["is_greater"],
            ["cos_cache", "sin_cache"],
            "/rotemb/If",
            then_branch=branch(LONG, "large"),
            else_branch=branch(SHORT, "small"),
        ),
        helper.make_node("Identity", ["cos_cache"], ["cos"]),
        helper.make_node("Identity", ["sin_cache"], ["sin"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("length", onnx.TensorProto.INT64, [])],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", 2]) for name in ("cos", "sin")],
        [helper.make_tensor("limit", onnx.TensorProto.INT64, [], [ORIGINAL])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def run(path, length):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip(("cos", "sin"), session.run(["cos", "sin"], {"length": np.array(length)}), strict=True))


@pytest.mark.parametrize("length", [1, ORIGINAL - 1, ORIGINAL, ORIGINAL + 1, LONGEST])
def test_the_rows_are_those_of_the_table_that_the_if_chooses(path, length):
    theirs = run(path, length)
    assert apply(path, RotaryCaches()).graph.meta[ORIGINAL_LENGTH] == ORIGINAL
    ours = run(path, length)
    for name in ("cos", "sin"):
        assert len(ours[name]) == length
        np.testing.assert_array_equal(ours[name], theirs[name][:length])
    np.testing.assert_array_equal(ours["sin"], (LONG if length > ORIGINAL else SHORT)["sin"][:length])


def test_no_control_flow_is_left(path):
    apply(path, RotaryCaches())
    model = onnx.load(path)
    assert "If" not in {node.op_type for node in model.graph.node}
    onnx.checker.check_model(model, full_check=True)


def test_a_graph_without_it_stays_as_it_is(path):
    apply(path, RotaryCaches())
    before = path.read_bytes()
    assert ORIGINAL_LENGTH not in apply(path, RotaryCaches()).graph.meta
    assert path.read_bytes() == before
