"""A graph that a provider does not document is refused by the node's name, before anything is written."""

from pathlib import Path

import numpy as np
import pytest
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper, save

from olivepress.core.errors import PressError
from olivepress.core.providers import DIRECTML, TENSORRT_RTX
from olivepress.export.structure import check_structure

HALF, FLOAT, WIDTH = TensorProto.FLOAT16, TensorProto.FLOAT, 64
LORA = "model.layers.0.o_proj.lora_{}.weight"


def weights(**arrays: np.ndarray) -> list[TensorProto]:
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def written(
    folder: Path,
    nodes: list[NodeProto],
    constants: list[TensorProto] = (),
    rank: int = 1,
    dtype: int = HALF,
    value: float = 0,
    sides: str = "AB",
) -> Path:
    """A graph of ``nodes`` from x to logits, with inputs for one adapter whose defaults have ``rank``."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    shapes = {"A": [WIDTH, rank], "B": [rank, WIDTH]}
    defaults = [numpy_helper.from_array(np.full(shapes[side], value, kind), LORA.format(side)) for side in sides]
    adapters = [helper.make_tensor_value_info(one.name, dtype, ["r", "r"]) for one in defaults]
    graph: GraphProto = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", HALF, ["batch", WIDTH]), *adapters],
        [helper.make_tensor_value_info("logits", HALF, None)],
        [*constants, *defaults],
    )
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    save(helper.make_model(graph, opset_imports=domains, ir_version=10), folder / "model.onnx")
    return folder / "model.onnx"


def node(op_type: str, inputs: list[str], domain: str = "", output: str = "logits", **attributes: object) -> NodeProto:
    return helper.make_node(op_type, inputs, [output], name=f"/the/{op_type}", domain=domain, **attributes)


def product(bits: int = 4, group: int = 32, inputs: int = WIDTH) -> tuple[NodeProto, list[TensorProto]]:
    settings = {"bits": bits, "block_size": group, "K": inputs, "N": 4}
    made = node("MatMulNBits", ["x", "q", "s"], "com.microsoft", **settings)
    return made, weights(q=np.zeros((4, 2, 16), np.uint8), s=np.ones(8, np.float16))


@pytest.mark.parametrize("provider", [DIRECTML, TENSORRT_RTX])
def test_what_both_document_is_taken(tmp_path, provider):
    check_structure(written(tmp_path, [node("Sigmoid", ["x"])]), provider)


def test_directml_takes_products_of_4_and_8_bits_and_tensorrt_none(tmp_path):
    one, constants = product()
    path = written(tmp_path, [one], constants)
    check_structure(path, DIRECTML)
    with pytest.raises(PressError, match=r"model.onnx: /the/MatMulNBits: MatMulNBits is no operator that it documents"):
        check_structure(path, TENSORRT_RTX)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bits": 2}, "MatMulNBits has 2 bits, expected 4 or 8"),
        ({"group": 32, "inputs": 48}, "MatMulNBits has groups of 32 of 48 inputs, expected a divisor"),
    ],
)
def test_products_that_directml_leaves_alone(tmp_path, settings, said):
    one, constants = product(**settings)
    with pytest.raises(PressError, match=said):
        check_structure(written(tmp_path, [one], constants), DIRECTML)


def test_a_quantized_lookup_is_in_neither_list(tmp_path):
    lookup = node("GatherBlockQuantized", ["q", "ids", "s"], "com.microsoft", block_size=32)
    constants = weights(q=np.zeros((4, 16), np.uint8), s=np.ones((4, 1), np.float16), ids=np.zeros(1, np.int64))
    for provider in (DIRECTML, TENSORRT_RTX):
        with pytest.raises(PressError, match=r"/the/GatherBlockQuantized: .* is no operator that it documents"):
            check_structure(written(tmp_path, [lookup], constants), provider)


def test_a_type_that_is_not_in_the_list_is_named_with_those_that_are(tmp_path):
    """bfloat16 is TensorRT's, and not DirectML's; the type comes from the node before."""
    nodes = [node("Cast", ["x"], output="y", to=TensorProto.BFLOAT16), node("Tanh", ["y"])]
    path = written(tmp_path, nodes)
    check_structure(path, TENSORRT_RTX)
    nodes = [node("Cast", ["x"], output="y", to=TensorProto.DOUBLE), node("Tanh", ["y"])]
    with pytest.raises(PressError, match=r"/the/Tanh: Tanh reads y of type double, expected float or float16 \(Dml"):
        check_structure(written(tmp_path, nodes), DIRECTML)


def test_tensorrt_takes_no_zero_point(tmp_path):
    constants = weights(s=np.ones((4, 2), np.float16))
    for name, shape in (("q", (4, WIDTH)), ("z", (4, 2))):
        size = int(np.prod(shape)) // 2
        constants.append(helper.make_tensor(name, TensorProto.INT4, shape, bytes(size), raw=True))
    settings = {"block_size": 32, "axis": -1}
    plain = written(tmp_path, [node("DequantizeLinear", ["q", "s"], **settings)], constants)
    check_structure(plain, TENSORRT_RTX)
    path = written(tmp_path, [node("DequantizeLinear", ["q", "s", "z"], **settings)], constants)
    with pytest.raises(PressError, match="DequantizeLinear has 3 inputs, expected at most 2"):
        check_structure(path, TENSORRT_RTX)


def test_tensorrt_wants_constant_axes(tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["axes"], name="/the/Shape"),
        node("ReduceSum", ["x", "axes"]),
    ]
    path = written(tmp_path, nodes)
    check_structure(path, DIRECTML)
    with pytest.raises(PressError, match="ReduceSum reads axes, expected a constant"):
        check_structure(path, TENSORRT_RTX)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sides": ""}, "no input for an adapter"),
        ({"sides": "A"}, "lora_A.weight has no lora_B beside it"),
        ({"rank": 0}, "lora_A.weight has no default of zeros"),
        ({"value": 1}, "lora_A.weight has no default of zeros"),
        ({"dtype": FLOAT}, "lora_A.weight is FLOAT, unlike the logits"),
    ],
)
def test_the_adapters_inputs_have_to_be_there_with_defaults_that_add_nothing(tmp_path, settings, said):
    with pytest.raises(PressError, match=said):
        check_structure(written(tmp_path, [node("Sigmoid", ["x"])], **settings), DIRECTML)
