"""The embedding in each form: what it computes, where it lies, and that a head which is tied to it shares it."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import external_data_helper, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import (
    KQuantWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

from olivepress.core.errors import PressError
from olivepress.export.graph import load, place
from olivepress.export.model_builder import HEADS, table_group
from olivepress.export.passes.embedding import Embedding
from olivepress.export.passes.sixteen_bits import SixteenBits
from olivepress.export.surgery import EMBEDDINGS, apply

ROWS, WIDTH = 300, 64
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
IDS = np.array([[0, 7, 299], [3, 7, 150]])
TYPES = {FLOAT: np.float32, HALF: np.float16}


def make(path, head, *, tied=True, width=WIDTH, dtype=FLOAT, table=None, moved=0.0):
    """ids -> table -> head -> logits as the GenAI builder writes it, the head as ``head`` of HEADS; returns the table.

    The numbers are those of a float16 checkpoint. ``moved``: how far each number of a tied head is from the table's,
    in parts of itself.
    """
    random = np.random.default_rng(0)
    table = random.standard_normal((ROWS, width)).astype(np.float16) if table is None else table
    other = table if tied else random.standard_normal((ROWS, width)).astype(np.float16)
    if moved:
        other = (other * (1 + moved * random.standard_normal(other.shape))).astype(np.float16)
    weights = {"model.embed_tokens.weight": table, "lm_head.MatMul.weight": np.ascontiguousarray(other.T)}
    nodes = [
        helper.make_node("Gather", ["model.embed_tokens.weight", "input_ids"], ["rows"], "/model/embed_tokens/Gather"),
        helper.make_node("MatMul", ["rows", "lm_head.MatMul.weight"], ["logits"], "/lm_head/MatMul"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["b", "n"])],
        [
            helper.make_tensor_value_info("rows", dtype, ["b", "n", width]),
            helper.make_tensor_value_info("logits", dtype, ["b", "n", ROWS]),
        ],
        [numpy_helper.from_array(array.astype(TYPES[dtype]), name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    if head != "float":
        search = KQuantWeightOnlyQuantConfig(customized_weight_config={"/lm_head/MatMul": {"bits": 8}})
        config = search if HEADS[head]["int4_algo_config"] == "k_quant_last" else None
        quantizer = MatMulNBitsQuantizer(
            model,
            block_size=32,
            is_symmetric=True,
            accuracy_level=1,
            op_types_to_quantize=("MatMul",),
            algo_config=config,
        )
        quantizer.process()
        model = quantizer.model.model
    external_data_helper.convert_model_to_external_data(model, location=f"{path.name}.data", size_threshold=0)
    onnx.save(model, path)
    return table.astype(np.float32)


def run(path):
    """The rows of IDS, and their logits."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        ["rows", "logits"], {"input_ids": IDS}
    )


def nodes(path):
    return {node.name: node for node in onnx.load(path, load_external_data=False).graph.node}


def table_bytes(path):
    return path.with_name(f"{path.name}.data").stat().st_size


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(("kind", "step"), [("int8", 1 / 100), ("int4", 1 / 5)])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head", ["float", "int8", "int4"])
def test_a_quantized_table_gives_the_rows_to_within_a_step(path, head, kind, step, tied, dtype):
    """Of numbers between -4 and 4 a step of 8 bits is 1/32, of 4 bits 1/2."""
    table = make(path, head, tied=tied, dtype=dtype)
    _, logits = run(path)
    apply(path, Embedding(kind))
    rows, after = run(path)
    assert rows.dtype == TYPES[dtype]
    error = np.abs(rows.astype(np.float32) - table[IDS])
    assert 0 < error.max() < 3 * step
    assert error.mean() < step
    # the head is what it was: on the same rows it gives the same
    name = next(name for name in nodes(path) if name.startswith("/lm_head/MatMul"))
    assert nodes(path)[name].op_type == ("MatMul" if head == "float" else "MatMulNBits")
    assert np.abs(after - logits).mean() < 10 * step


@pytest.mark.parametrize(("head", "kind"), [("int8", "int8"), ("int8", "int4"), ("int4", "int4")])
def test_a_tied_head_of_as_many_bits_is_the_embedding_and_costs_nothing(path, head, kind):
    make(path, head)
    before = table_bytes(path)
    apply(path, Embedding(kind), SixteenBits())
    graph = load(path).graph
    names = {value.name: value.const_value for value in graph.initializers.values()}
    weights = next(tensor for name, tensor in names.items() if name.startswith("lm_head.MatMul.weight_Q"))
    assert place(names["model.embed_tokens.qweight"]) == place(weights)
    scales = names["lm_head.MatMul.weight_scale" if head == "int8" else "lm_head.MatMul.weight_scales"].nbytes
    groups = ROWS * WIDTH // 32
    assert scales == 2 * groups
    # the float table is gone, and half of the scales; a head of int4 has no zero points, and the embedding needs some
    assert table_bytes(path) == before - 4 * ROWS * WIDTH - 2 * groups + (groups // 2 if head == "int4" else 0)


def test_the_shared_rows_are_the_rows_that_the_head_computes_with(path):
    """Unit vectors through the head give its weights, column by column."""
    make(path, "int8", width=ROWS // 300 * 64)
    apply(path, Embedding("int8"))
    rows, logits = run(path)
    weights, *_ = np.linalg.lstsq(rows.reshape(-1, WIDTH), logits.reshape(-1, ROWS), rcond=None)
    np.testing.assert_allclose(rows @ weights, logits, atol=1e-3)
    # a row's logit for its own token is its square
    own = np.take_along_axis(logits, IDS[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(own, np.square(rows).sum(-1), rtol=1e-4)


@pytest.mark.parametrize(
    ("head", "kind", "tied"), [("int4", "int8", True), ("int8", "int8", False), ("float", "int8", True)]
)
def test_else_the_embedding_has_a_table_of_its_own(path, head, kind, tied):
    make(path, head, tied=tied)
    before = table_bytes(path)
    apply(path, Embedding(kind))
    groups = ROWS * WIDTH // 64
    assert table_bytes(path) == before - 4 * ROWS * WIDTH + ROWS * WIDTH + (4 + 1) * groups


@pytest.mark.parametrize(("bits", "width", "expected"), [(8, 576, 64), (8, 96, 32), (4, 576, 32), (8, 40, 32)])
def test_groups_of_64_where_8_bits_and_the_width_allow(bits, width, expected):
    assert table_group(bits, width) == expected


@pytest.mark.parametrize("head", ["float", "int8", "int4"])
def test_float_is_exact_in_half_the_bytes(path, head):
    make(path, head)
    before, rows = table_bytes(path), run(path)
    apply(path, Embedding("float"))
    for ours, theirs in zip(run(path), rows, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    saved = 2 * ROWS * WIDTH + (4 * ROWS * WIDTH if head == "float" else 0)  # a float head reads the same table
    assert table_bytes(path) == before - saved


@pytest.mark.parametrize(("dtype", "stored"), [("float16", "FLOAT16"), ("bfloat16", "BFLOAT16"), ("float32", "FLOAT")])
def test_float_is_stored_in_the_bits_that_hold_it(path, dtype, stored):
    numbers = np.random.default_rng(1).standard_normal((ROWS, WIDTH)).astype(np.float32)
    if dtype == "bfloat16":  # beyond float16's range
        numbers = (1e6 * numbers).astype(ir.DataType.BFLOAT16.numpy())
    table = make(path, "int8", table=numbers.astype(dtype) if dtype != "bfloat16" else numbers)
    apply(path, Embedding("float"))
    assert load(path).graph.initializers["model.embed_tokens.weight"].dtype.name == stored
    np.testing.assert_array_equal(run(path)[0], table[IDS])


def test_another_table_is_no_tied_one_however_alike_in_shape(path):
    """Sharing is decided by the numbers: a configuration that says "tied" may be wrong."""
    table = make(path, "int8", tied=False)
    apply(path, Embedding("int8"))
    assert np.abs(run(path)[0] - table[IDS]).max() < 0.05


@pytest.mark.parametrize(
    ("head", "kind", "moved"), [("int8", "int8", 0.005), ("int8", "int4", 0.03), ("int4", "int4", 0.1)]
)
def test_a_head_that_was_tied_and_trained_on_is_not_shared(path, head, kind, moved):
    """Its rows in the place of the embedding's are another model's, by so little that the export's check passed."""
    make(path, head, moved=moved)
    apply(path, Embedding(kind))
    names = {value.name: value.const_value for value in load(path).graph.initializers.values()}
    weights = next(tensor for name, tensor in names.items() if name.startswith("lm_head.MatMul.weight_Q"))
    assert place(names["model.embed_tokens.qweight"]) != place(weights)


def test_an_odd_number_of_groups_of_int4_is_not_shared(path):
    """MatMulNBits pads the zero points of each row to whole bytes then, GatherBlockQuantized does not."""
    table = make(path, "int4", width=96)
    apply(path, Embedding("int4"))
    assert np.abs(run(path)[0] - table[IDS]).max() < 0.6
    assert load(path).graph.initializers["model.embed_tokens.scales"].shape == [ROWS, 3]


def test_a_row_of_zeros_stays_one(path):
    """Tokens that were never trained: their group has no range to divide by."""
    table = np.random.default_rng(2).standard_normal((ROWS, WIDTH)).astype(np.float16)
    table[7] = 0
    make(path, "int8", tied=False, table=table)
    apply(path, Embedding("int8"))
    assert not run(path)[0][:, 1].any()


def test_a_graph_without_an_embedding(path):
    make(path, "int8")
    model = onnx.load(path)
    model.graph.node[0].name, model.graph.node[0].input[1] = "other", "positions"
    model.graph.input[0].name = "positions"
    onnx.save(model, path)
    apply(path, Embedding("float"))
    with pytest.raises(PressError, match=r"no embedding that could be int8\. Set embedding: float for this target\."):
        apply(path, Embedding("int8"))


def test_a_width_that_groups_do_not_divide(path):
    make(path, "float", width=40)
    with pytest.raises(PressError, match=r"40 columns are no multiple of 32\. Set embedding: float\."):
        apply(path, Embedding("int8"))


def test_every_kind_is_tested_here():
    """But for mixed, which test_mixed_head.py tests."""
    assert EMBEDDINGS == ("float", "int8", "int4", "mixed")


@pytest.mark.parametrize("kind", ["float", "int8", "int4"])
def test_twice_is_once(path, kind):
    make(path, "int8")
    apply(path, Embedding(kind), SixteenBits())
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    apply(path, Embedding(kind), SixteenBits())
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
