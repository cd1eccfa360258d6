"""MatMulNBits in TensorRT's operators: the same numbers, with zero points that TensorRT does not take."""

import numpy as np
import onnx
import onnxruntime
import pytest
from one_operator import packed
from onnx import TensorProto, helper, numpy_helper

from olivepress.core.errors import PressError
from olivepress.export.passes.dequantized import Dequantized
from olivepress.export.surgery import apply

INPUTS, OUTPUTS, GROUP = 96, 6, 32
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((2, 5, INPUTS)).astype(np.float32)


def written(folder, zeros: np.ndarray | None, products: int = 1, bits: int = 4, inputs: int = INPUTS):
    """A file with ``products`` MatMulNBits of one x, whose results are added; and the weights, [N, K] each."""
    groups = -(-inputs // GROUP)
    constants, nodes, wholes = [], [], []
    for number in range(products):
        codes = RANDOM.integers(0, 2**bits, (OUTPUTS, groups * GROUP)).astype(np.uint8)
        scales = RANDOM.uniform(0.01, 0.02, (OUTPUTS, groups)).astype(np.float32)
        middle = np.full((OUTPUTS, groups), 2 ** (bits - 1)) if zeros is None else zeros
        wholes.append((codes.reshape(OUTPUTS, groups, GROUP) - middle[..., None].astype(int)) * scales[..., None])
        arrays = {"q": packed(codes, bits).reshape(OUTPUTS, groups, -1), "s": scales.reshape(-1)}
        if zeros is not None:
            arrays["z"] = packed(zeros.astype(np.uint8), bits).reshape(-1)
        constants += [numpy_helper.from_array(array, f"{name}{number}") for name, array in arrays.items()]
        settings = {"bits": bits, "block_size": GROUP, "K": inputs, "N": OUTPUTS, "accuracy_level": 1}
        node = ("MatMulNBits", ["x", *(f"{name}{number}" for name in arrays)], [f"y{number}"])
        nodes.append(helper.make_node(*node, name=f"/p{number}/MatMulNBits", domain="com.microsoft", **settings))
    nodes.append(helper.make_node("Sum", [f"y{number}" for number in range(products)], ["y"], name="/Sum"))
    ins = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "tokens", inputs])]
    outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "tokens", OUTPUTS])]
    graph = helper.make_graph(nodes, "products", ins, outs, constants)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), path)
    return path, sum(whole.reshape(OUTPUTS, -1)[:, :inputs] for whole in wholes)


def run(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": X})[0]


def kinds(path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("products", [1, 3])
def test_zero_points_are_computed_apart_and_no_weight_changes(tmp_path, products):
    zeros = RANDOM.integers(0, 16, (OUTPUTS, INPUTS // GROUP))
    path, whole = written(tmp_path, zeros, products)
    before = run(path)
    apply(path, Dequantized())
    expected = X.astype(np.float64) @ whole.T
    for found in (before, run(path)):
        np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max(), rtol=0)
    found = kinds(path)
    assert "MatMulNBits" not in found and found.count("DequantizeLinear") == products
    assert found.count("ReduceSum") == 1, "products of one x share the sums over its groups"
    (stored,) = {each.data_type for each in onnx.load(path).graph.initializer if each.name.endswith("/int4")}
    assert stored == TensorProto.INT4
    onnx.checker.check_model(onnx.load(path))


@pytest.mark.parametrize("zeros", [None, np.full((OUTPUTS, INPUTS // GROUP), 8)])
def test_without_zero_points_it_is_one_product(tmp_path, zeros):
    path, whole = written(tmp_path, zeros)
    apply(path, Dequantized())
    expected = X.astype(np.float64) @ whole.T
    np.testing.assert_allclose(run(path), expected, atol=2e-6 * np.abs(expected).max(), rtol=0)
    assert kinds(path) == ["DequantizeLinear", "Transpose", "MatMul", "Sum"]
    assert {each.name for each in onnx.load(path).graph.initializer} == {"q0/int4", "s0/groups"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bits": 8}, "/p0/MatMulNBits: 8 bits in groups of 32 of 96 inputs: TensorRT takes 4 bits"),
        ({"inputs": 80}, "4 bits in groups of 32 of 80 inputs"),
    ],
)
def test_what_tensorrt_cannot_have_is_refused_by_name(tmp_path, settings, said):
    path, _ = written(tmp_path, None, **settings)
    before = path.read_bytes()
    with pytest.raises(PressError, match=said):
        apply(path, Dequantized())
    assert path.read_bytes() == before
