"""Where the native operators go in a graph; tests/test_lora_operator.py has what they compute."""

import onnx_ir as ir
import pytest

from olivepress.core.errors import PressError
from olivepress.export.passes.lora_inputs import LoraInputs
from olivepress.export.passes.native_operators import KINDS, NativeOperators

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
NAME = "/model/layers.0/{}/MatMulNBits"
INPUTS = 64


def projection(block: str, dtype: ir.DataType, outputs: int, **settings: int) -> ir.Node:
    """A MatMulNBits of INPUTS inputs."""
    weights = [ir.val(f"w{n}", ir.DataType.UINT8, [1]) for n in range(3)]
    attributes = {"K": INPUTS, "N": outputs, **settings}
    result = ir.val("y", dtype, [1, 1, outputs])
    x = ir.val("x", dtype, [1, 1, INPUTS])
    return ir.node("MatMulNBits", [x, *weights], attributes, outputs=[result], name=NAME.format(block))


def norm(read: ir.Value, results: int) -> ir.Node:
    """The RMSNorm over the sum of ``read`` and the residual stream; with 4 results the last is that sum."""
    inputs = [ir.val("skip"), read, ir.val("gamma")]
    outputs = [ir.val(name) for name in ("z", "", "", "total")[:results]]
    return ir.node("SkipSimplifiedLayerNormalization", inputs, {"epsilon": 0.5}, outputs=outputs, name="norm")


def gated(read: ir.Value) -> list[ir.Node]:
    """gate · sigmoid(gate) · up, of the halves of ``read``."""
    split = ir.node("Split", [read], num_outputs=2, name="split")
    gate, up = split.outputs
    sigmoid = ir.node("Sigmoid", [gate], name="sigmoid")
    silu = ir.node("Mul", [gate, sigmoid.outputs[0]], name="silu")
    product = ir.node("Mul", [silu.outputs[0], up], outputs=[ir.val("z")], name="product")
    return [split, sigmoid, silu, product]


def run(nodes: list[ir.Node], provider: str) -> ir.Graph:
    """The graph of ``nodes``, the projection first, after both passes."""
    graph = ir.Graph([nodes[0].inputs[0]], [], nodes=nodes, opset_imports={"": 21}, name="one")
    model = ir.Model(graph, ir_version=10)
    ir.passes.Sequential(LoraInputs("all"), NativeOperators(provider))(model)
    return graph


@pytest.mark.parametrize(
    ("provider", "dtype", "outputs", "expected"),
    [
        (CPU, "FLOAT16", 64, "has 64 outputs of FLOAT16, the LoRA operator computes FLOAT "),
        (CPU, "FLOAT", 72, "has 72 outputs of FLOAT, .* and multiples of 16. Set"),
        (CUDA, "FLOAT", 64, "has 64 outputs of FLOAT, the LoRA operator computes FLOAT16"),
        (CUDA, "FLOAT16", 68, "has 68 outputs of FLOAT16, .* and multiples of 8. Set"),
    ],
)
def test_what_the_operators_cannot_compute_is_refused(provider, dtype, outputs, expected):
    node = projection("attn/o_proj", ir.DataType[dtype], outputs)
    with pytest.raises(ir.passes.PassError) as caught:
        run([node], provider)
    with pytest.raises(PressError, match=f"{NAME.format('attn/o_proj')}: {expected}"):
        raise caught.value.__cause__


@pytest.mark.parametrize("provider", KINDS)
@pytest.mark.parametrize("results", [1, 4])
def test_a_norm_is_taken_in(provider, results):
    node = projection("attn/o_proj", KINDS[provider].dtype, 64)
    graph = run([node, norm(node.outputs[0], results)], provider)
    *_, before, last = graph
    prefix = f"{node.name}/lora"
    assert (before, last.name, last.op_type) == (node, f"{prefix}/AddNorm", "LoraAddNorm")
    assert [value.name for value in last.outputs] == ["z", "total" if results == 4 else f"{prefix}/sum"]
    assert [value.name for value in last.inputs[-2:]] == ["skip", "gamma"]
    assert last.attributes["epsilon"].as_float() == 0.5


@pytest.mark.parametrize("provider", KINDS)
def test_a_norm_stays_where_another_node_reads_what_it_reads(provider):
    node = projection("attn/o_proj", KINDS[provider].dtype, 64)
    others = [norm(node.outputs[0], 1), ir.node("Identity", [node.outputs[0]], name="reader")]
    last = list(run([node, *others], provider))[-3]
    assert (last.op_type, last.outputs[0].name) == ("LoraAdd", "y")
    assert [other.inputs[read] for other, read in zip(others, (1, 0), strict=True)] == [last.outputs[0]] * 2


@pytest.mark.parametrize("provider", KINDS)
def test_a_gated_mlp_is_taken_in(provider):
    node = projection("mlp/gate_up_proj", KINDS[provider].dtype, 64)
    graph = run([node, *gated(node.outputs[0])], provider)
    last = list(graph)[-1]
    assert [other.op_type for other in graph][-2:] == ["MatMulNBits", "LoraAddGate"]
    assert [value.name for value in last.outputs] == ["z"]


def test_a_gated_mlp_stays_where_its_halves_are_no_multiple_of_the_operators():
    node = projection("mlp/gate_up_proj", ir.DataType.FLOAT, 48)  # halves of 24, multiples of 16
    graph = run([node, *gated(node.outputs[0])], CPU)
    assert [other.op_type for other in graph][1:] == ["LoraAdd", "Split", "Sigmoid", "Mul", "Mul"]


@pytest.mark.parametrize("provider", KINDS)
def test_matrices_are_read_in_float16_and_results_declared(provider):
    """ONNX Runtime reuses memory where it knows the shapes; CUDA's share begins before the projection."""
    dtype = KINDS[provider].dtype
    node = projection("attn/o_proj", dtype, 64)
    graph = run([node], provider)
    matrices = [value for value in graph.inputs if "lora" in value.name]
    assert {value.dtype for value in matrices} == {ir.DataType.FLOAT16}
    assert {value.const_value.dtype for value in matrices} == {ir.DataType.FLOAT16}
    assert [list(value.const_value.shape) for value in matrices] == [[0, INPUTS], [0, 64]]
    base = node.outputs[0]
    assert (base.dtype, list(base.shape)) == (dtype, [1, 1, 64])
    assert graph.opset_imports == {"": 21, KINDS[provider].domain: 1}
    if provider == CUDA:
        begin = next(iter(graph))
        assert (begin.op_type, node.inputs[0]) == ("LoraBegin", begin.outputs[0])
        assert (node.inputs[0].dtype, list(node.inputs[0].shape)) == (dtype, [1, 1, INPUTS])
    else:
        assert node.inputs[0].name == "x"


@pytest.mark.parametrize(
    ("provider", "settings", "own"),
    [
        (CPU, {"accuracy_level": 4, "bits": 4, "block_size": 32}, True),
        (CPU, {"accuracy_level": 4, "bits": 8, "block_size": 64}, True),
        (CPU, {"accuracy_level": 1, "bits": 4, "block_size": 32}, False),
        (CPU, {"bits": 4, "block_size": 32}, False),
        (CPU, {"accuracy_level": 4, "bits": 4, "block_size": 16}, False),
        (CPU, {"accuracy_level": 4, "bits": 4, "block_size": 128}, False),  # 64 inputs are half a block
        (CUDA, {"bits": 4, "block_size": 32}, True),
        (CUDA, {"bits": 8, "block_size": 64}, True),
        (CUDA, {"bits": 2, "block_size": 32}, False),
    ],
)
def test_the_products_that_the_operators_know_are_theirs(provider, settings, own):
    node = projection("attn/o_proj", KINDS[provider].dtype, 64, **settings)
    run([node], provider)
    assert node.domain == (KINDS[provider].domain if own else "")
