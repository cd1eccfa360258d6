"""B of packed projections without its zeros: the portable graph computes what it does with them."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from one_operator import with_zeros

from olivepress.export.graph import load
from olivepress.export.passes.block_adapters import BlockAdapters
from olivepress.export.passes.half_adapters import HalfAdapters
from olivepress.export.passes.lora_inputs import LoraInputs
from olivepress.export.projections import projections
from olivepress.export.surgery import apply

WIDTH, QKV, MLP = 8, (48, 16, 16), 32
OUTPUTS = {"attn/qkv_proj": sum(QKV), "attn/o_proj": 48, "mlp/gate_up_proj": 2 * MLP}
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((1, 3, WIDTH)).astype(np.float32)
KEY = "model.layers.{}.{}.lora_{}.weight"


@pytest.fixture
def path(tmp_path):
    """Products of x in two layers, an output each."""
    x = ir.val("x", ir.DataType.FLOAT, [1, "n", WIDTH])
    weights, nodes = [], []
    for layer in range(2):
        for part, outputs in OUTPUTS.items():
            name, array = f"{layer}/{part}", RANDOM.standard_normal((WIDTH, outputs)).astype(np.float32)
            weights.append(ir.val(name, const_value=ir.tensor(array, name=name)))
            result = ir.val(f"{name}/out", ir.DataType.FLOAT, [1, "n", outputs])
            node = ir.node("MatMul", [x, weights[-1]], outputs=[result], name=f"/model/layers.{layer}/{part}/MatMul")
            nodes.append(node)
    opsets = {"": 21, "com.microsoft": 1}
    results = [node.outputs[0] for node in nodes]
    graph = ir.Graph([x], results, nodes=nodes, initializers=weights, opset_imports=opsets, name="g")
    ir.save(ir.Model(graph, ir_version=10), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def run(path, **adapter):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X, **adapter})


def adapters(rank: int, dtype) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of all packed projections: B without zeros, and with them."""
    short, whole = {}, {}
    for layer in range(2):
        for name, widths in (("qkv_proj", QKV), ("gate_up_proj", (MLP, MLP))):
            a, b = KEY.format(layer, name, "A"), KEY.format(layer, name, "B")
            short[a] = whole[a] = RANDOM.standard_normal((len(widths) * rank, WIDTH)).astype(dtype)
            short[b] = RANDOM.standard_normal((rank, sum(widths))).astype(dtype)
            whole[b] = with_zeros(short[b], widths)
    return short, whole


def test_without_an_adapter_not_a_bit_changes(path):
    expected = run(path)
    apply(path, LoraInputs("all"), BlockAdapters(QKV), HalfAdapters())
    for found, one in zip(run(path), expected, strict=True):
        np.testing.assert_array_equal(found, one)


@pytest.mark.parametrize("rank", [1, 5])
@pytest.mark.parametrize("half", [False, True])
def test_an_adapter_does_what_it_does_with_its_zeros(path, rank, half):
    short, whole = adapters(rank, np.float16 if half else np.float32)
    more = [HalfAdapters()] if half else []
    apply(path, LoraInputs("all"), *more, out=path.with_name("whole.onnx"))
    expected = run(path.with_name("whole.onnx"), **whole)
    apply(path, LoraInputs("all"), BlockAdapters(QKV), *more)
    plain = run(path)
    for found, one, without in zip(run(path, **short), expected, plain, strict=True):
        np.testing.assert_array_equal(found, one)
        assert found.shape[-1] == OUTPUTS["attn/o_proj"] or np.abs(found - without).min() > 0
    with pytest.raises(Exception, match="dimension mismatch"):
        run(path, **whole)  # of the other layout: refused, not computed otherwise


def test_which_projections_are_without_zeros(path):
    apply(path, LoraInputs("all"), BlockAdapters(QKV))
    assert {name: each.blocks for (layer, name), each in projections(load(path)).items() if layer} == {
        "qkv_proj": True,
        "o_proj": False,
        "gate_up_proj": True,
    }


def test_parts_that_the_operators_do_not_read_keep_their_zeros(path):
    apply(path, LoraInputs("all"), BlockAdapters((56, 16, 8)))
    assert not projections(load(path))[0, "qkv_proj"].blocks


def test_a_second_time_there_is_nothing_to_do(path):
    apply(path, LoraInputs("all"), BlockAdapters(QKV), HalfAdapters())
    before = path.read_bytes()
    apply(path, BlockAdapters(QKV), HalfAdapters())
    assert path.read_bytes() == before
