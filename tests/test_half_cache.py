"""Which graphs get the project's attention, on a CPU with a float16 cache, and on CUDA.

tests/test_attention_operator.py and tests/gpu/test_attention_on_cuda.py have what the operators compute.
"""

import onnx_ir as ir
import pytest

from olivepress.export.passes.cuda_attention import CudaAttention
from olivepress.export.passes.half_cache import HalfCache

FLOAT, FLOAT16, INT32 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT32
HEADS = {"num_heads": 4, "kv_num_heads": 2}
NAMES = ("key", "value")


def attention(layer: int, *, size: object = 64, dtype: ir.DataType = FLOAT, **settings: object) -> ir.Node:
    """A node as the GenAI builder writes it, with the last three inputs left out by empty names."""
    past = [ir.val(f"past.{layer}.{name}", dtype, ["batch", 2, "past", size]) for name in NAMES]
    present = [ir.val(f"present.{layer}.{name}", dtype, ["batch", 2, "total", size]) for name in NAMES]
    query = ir.val(f"qkv.{layer}", dtype, ["batch", "tokens", 512])
    lengths = [ir.val(f"{name}.{layer}", INT32) for name in ("lengths", "total")]
    tables = [ir.val(f"{name}.{layer}", FLOAT) for name in ("cos", "sin")]
    inputs = [query, None, None, *past, *lengths, *tables, None, None, None]
    attributes = {**HEADS, "scale": 0.125, "softcap": 0.0, "do_rotary": 1, "rotary_interleaved": 0, **settings}
    outputs = [ir.val(f"y.{layer}", dtype), *present]
    return ir.node(
        "GroupQueryAttention", inputs, attributes, domain="com.microsoft", outputs=outputs, name=f"attention.{layer}"
    )


def run(*nodes: ir.Node, by: type[ir.passes.InPlacePass] = HalfCache) -> tuple[ir.Graph, bool]:
    """The graph of the nodes after the pass, and whether that changed it."""
    inputs = [value for node in nodes for value in node.inputs if value is not None]
    outputs = [value for node in nodes for value in node.outputs]
    graph = ir.Graph(inputs, outputs, nodes=nodes, opset_imports={"": 21, "com.microsoft": 1}, name="g")
    return graph, by()(ir.Model(graph, ir_version=10)).modified


def test_the_attention_becomes_the_projects_own_with_a_float16_cache():
    windowed = attention(1, local_window_size=100)
    graph, modified = run(attention(0), windowed)
    assert modified and graph.opset_imports["olivepress.cpu"] == 1
    for node in graph:
        assert (node.domain, len(node.inputs)) == ("olivepress.cpu", 9)
        cache = [*node.inputs[3:5], *node.outputs[1:]]
        assert {value.dtype for value in cache} == {FLOAT16}
        assert {node.inputs[0].dtype, node.outputs[0].dtype} == {FLOAT}
        has = {name: attribute.value for name, attribute in node.attributes.items()}
        window = 100 if node is windowed else -1
        assert has == {**HEADS, "scale": 0.125, "local_window_size": window, "do_rotary": 1}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"softcap": 30.0}, "its attention has softcap, which the native operators do not know"),
        ({"smooth_softmax": 1}, "its attention has smooth_softmax"),
        ({"rotary_interleaved": 1}, "its attention has rotary_interleaved"),
        ({"size": 72}, "its heads are of 72 values, those of the native operators of 16, 32 … 256"),
        ({"size": 512}, "its heads are of 512 values"),
        ({"dtype": FLOAT16}, "it does not compute in float32"),
    ],
)
def test_what_the_operator_cannot_compute_leaves_the_whole_graph_as_it_is(settings, said, capfd):
    graph, modified = run(attention(0), attention(1, **settings))
    assert not modified and {node.domain for node in graph} == {"com.microsoft"}
    found = "".join(capfd.readouterr())
    assert f"attention.1: {said}" in found and "the key-value cache stays in float32" in found


def test_an_input_that_the_operator_lacks_leaves_it_too(capfd):
    node = attention(0)
    node.replace_input_with(10, ir.val("attention_bias", FLOAT))
    assert not run(node)[1]
    assert "has inputs or outputs that the native operators do not know" in "".join(capfd.readouterr())


def test_a_cache_that_others_read_stays(capfd):
    node = attention(0)
    reader = ir.node("Identity", [node.inputs[3]], name="reader")
    assert not run(node, reader)[1]
    assert "other nodes read its cache, too" in "".join(capfd.readouterr())


def test_a_graph_without_attention_is_left():
    assert not run(ir.node("Identity", [ir.val("x", FLOAT)], name="alone"))[1]


@pytest.mark.parametrize("size", [64, 96, 128])
def test_on_cuda_it_becomes_the_projects_own_in_float16(size):
    graph, modified = run(attention(0, dtype=FLOAT16, size=size), by=CudaAttention)
    assert modified and graph.opset_imports["olivepress.cuda"] == 1
    (node,) = graph
    assert (node.domain, len(node.inputs), len(node.outputs)) == ("olivepress.cuda", 9, 4)
    assert {value.dtype for value in (node.inputs[0], *node.inputs[3:5], *node.outputs[:3])} == {FLOAT16}
    assert node.outputs[3].name == "attention.0/scratch"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 80}, "its heads are of 80 values, those of the native operators of 64, 96, 128"),
        ({"dtype": FLOAT}, "it does not compute in float16"),
        ({"softcap": 30.0}, "its attention has softcap"),
    ],
)
def test_on_cuda_what_there_is_no_kernel_for_stays_onnx_runtimes(settings, said, capfd):
    graph, modified = run(attention(0, **{"dtype": FLOAT16, **settings}), by=CudaAttention)
    assert not modified and {node.domain for node in graph} == {"com.microsoft"}
    found = "".join(capfd.readouterr())
    assert f"attention.0: {said}" in found and "attention stays ONNX Runtime's" in found
