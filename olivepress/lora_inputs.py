"""Open LoRA inputs on an exported graph: one int4 base, any adapter of any rank loaded over it at run time.

Upstream cannot do this: the GenAI builder takes either a quantized checkpoint or an adapter, and with an adapter it
re-quantizes everything, the LoRA matrices included, and the model then fails when no adapter is active
(onnxruntime-genai #1661, Olive #2277).

A quantized projection y = x·W becomes y = x·W + (x·Aᵀ)·B. A [rank, K] and B [rank, N] are graph inputs with
initializers of rank zero as their defaults, so that without an adapter the added term is an empty product. Both keep
their long side contiguous in memory: A is read as dot products, B as sums of rows, which is what one token wants.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from olivepress.errors import PressError
from olivepress.lora_operator_graph import Operators

PROJECTION = re.compile(r"/model/layers\.(?P<layer>\d+)/(?P<block>attn|mlp)/(?P<name>\w+)/MatMul(?:NBits)?")
# Which projections get inputs, by block. Each costs time, also with no adapter (docs/performance-decode.md).
BLOCKS = {"all": ("attn", "mlp"), "attention": ("attn",)}
# Projections that some checkpoints or graphs pack into one matrix, in the order in which they are packed.
MODEL_PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
INPUT = re.compile(r"model\.layers\.(?P<layer>\d+)\.(?P<name>\w+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True)
class Projection:
    """A projection with LoRA inputs: layer number, the graph's name for it, inputs K, outputs N, numpy dtype."""

    layer: int
    name: str
    inputs: int
    outputs: int
    dtype: str

    @property
    def lora_a(self) -> str:
        return f"model.layers.{self.layer}.{self.name}.lora_A.weight"

    @property
    def lora_b(self) -> str:
        return f"model.layers.{self.layer}.{self.name}.lora_B.weight"


def add_lora_inputs(model_path: Path, which: str = "all", *, operator: str | None = None) -> int:
    """Add the inputs to the projections of the ONNX file, in place; returns how many projections have them.

    ``which`` is a key of BLOCKS: every projection, or attention's alone (PEFT's default modules lie there).
    ``operator``, an execution provider, takes the project's own operators for it (olivepress/native) in place of ONNX
    Runtime's; they read A and B in float16. Only the graph is read and written, the external data stays as it is.
    Raises PressError if no node is known.
    """
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(model_path, load_external_data=False)
    graph = model.graph
    operators = Operators(graph, operator) if operator else None
    dtypes = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    nodes = []
    count = 0
    for node in graph.node:
        match = PROJECTION.fullmatch(node.name)
        if not match or match["block"] not in BLOCKS[which]:
            nodes.append(node)
            continue
        elem_type = TensorProto.FLOAT16 if operator else dtypes[node.output[0]]
        inputs, outputs = _shape(node, shapes)
        dtype = helper.tensor_dtype_to_np_dtype(elem_type)
        projection = Projection(int(match["layer"]), match["name"], inputs, outputs, dtype.name)
        for name, width in ((projection.lora_a, inputs), (projection.lora_b, outputs)):
            rank = f"{projection.layer}.{projection.name}.rank"
            graph.input.append(helper.make_tensor_value_info(name, elem_type, [rank, width]))
            graph.initializer.append(numpy_helper.from_array(np.zeros((0, width), dtype), name))
        nodes += operators.around(node, projection.lora_a, projection.lora_b) if operator else _nodes(node, projection)
        count += 1
    if not count:
        raise PressError(
            f"{model_path}: found no projection to give LoRA inputs; nodes are named unlike {PROJECTION.pattern}"
        )
    if operator:
        model.opset_import.add(domain=operators.kind.domain, version=1)
        nodes = [node for node in nodes if node.name not in operators.replaced]
        operators.take_products(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, model_path)
    return count


def _nodes(node: "onnx.NodeProto", projection: Projection) -> "list[onnx.NodeProto]":  # noqa: F821
    """The projection and the nodes that add (x·Aᵀ)·B to its output."""
    from onnx import helper

    prefix, x, output = f"{node.name}/lora", node.input[0], node.output[0]
    node.output[0] = f"{prefix}/base"
    product = helper.make_node(
        "FusedMatMul", [x, projection.lora_a], [f"{prefix}/a"], f"{prefix}/A", domain="com.microsoft", transB=1
    )
    return [
        node,
        product,
        helper.make_node("MatMul", [f"{prefix}/a", projection.lora_b], [f"{prefix}/b"], f"{prefix}/B"),
        helper.make_node("Add", [node.output[0], f"{prefix}/b"], [output], f"{prefix}/Add"),
    ]


def _shape(node: "onnx.NodeProto", shapes: dict[str, list[int]]) -> tuple[int, int]:  # noqa: F821
    """(K, N) of a MatMulNBits or MatMul node."""
    if node.op_type == "MatMul":
        inputs, outputs = shapes[node.input[1]]
        return inputs, outputs
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    return attributes["K"], attributes["N"]


def projections(model_path: Path) -> dict[tuple[int, str], Projection]:
    """(layer, name) -> Projection of an ONNX file that add_lora_inputs has treated."""
    import onnx
    from onnx import helper

    model = onnx.load(model_path, load_external_data=False)
    sides: dict[tuple[int, str], dict[str, int]] = {}
    dtypes: dict[tuple[int, str], str] = {}
    for value in model.graph.input:
        match = INPUT.fullmatch(value.name)
        if match:
            key = (int(match["layer"]), match["name"])
            tensor = value.type.tensor_type
            sides.setdefault(key, {})[match["side"]] = tensor.shape.dim[1].dim_value
            dtypes[key] = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    if not sides:
        raise PressError(f"{model_path}: the graph has no LoRA inputs. Export it with stages/auto_opt.py.")
    return {key: Projection(*key, size["A"], size["B"], dtypes[key]) for key, size in sides.items()}


def qkv_sizes(model_folder: Path) -> tuple[int, int, int]:
    """Outputs of q, k and v, from genai_config.json."""
    decoder = json.loads((model_folder / "genai_config.json").read_text(encoding="utf-8"))["model"]["decoder"]
    size = decoder["head_size"]
    key_value = decoder["num_key_value_heads"] * size
    return decoder["num_attention_heads"] * size, key_value, key_value
