"""Whether a graph is one that its execution provider documents: every operator, every type, every adapter's input.

For providers that no machine of ours has had. What they document is tabled here, as far as graphs of this project have
it; an operator that is not in the table is refused by name, as is a type. A table says what a provider claims to take,
and nothing of what it computes.

- DirectML: the section DmlExecutionProvider of docs/OperatorKernels.md in microsoft/onnxruntime (which is generated
  from the kernels that are registered). The bits and groups of MatMulNBits are those of its query,
  DmlOperatorMatMulNBits.cpp.
- TensorRT for RTX: docs/operators.md in onnx/onnx-tensorrt, release 10.15, the parser that decides what the provider
  takes. GroupQueryAttention is no ONNX operator and not in that list: NVIDIA/TensorRT-RTX-EP-ABI hands it to TensorRT's
  own attention plug-in (src/multi_rotary_cache_concat_offset), and ONNX Runtime GenAI's builder exports it for this
  provider in float16 and bfloat16 alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.errors import PressError
from olivepress.core.providers import DIRECTML, TENSORRT_RTX

if TYPE_CHECKING:
    import onnx_ir as ir

FLOATS = frozenset({"float", "float16"})
INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
NUMBERS = FLOATS | INTEGERS
ALL = NUMBERS | {"bool", "double"}
INDICES = frozenset({"int32", "int64"})
INT64 = frozenset({"int64"})
BOOL = frozenset({"bool"})
TO = "to"  # the type of a result is the attribute's of this name


@dataclass(frozen=True)
class Kernel:
    """What a provider documents of an operator.

    ``inputs``: the types that each may have; the last is that of all that follow. ``result``: the input whose type the
    outputs have, or a type's name, or TO. ``constant``: inputs that have to be initializers or constants. ``most``: how
    many inputs there may be. ``hindrance``: why a node of this kind is not taken all the same, or nothing.
    """

    inputs: tuple[frozenset[str], ...]
    result: int | str = 0
    constant: tuple[int, ...] = ()
    most: int | None = None
    hindrance: "Callable[[ir.Node], str]" = lambda node: ""


def _whole_groups(node: "ir.Node") -> str:
    bits, group, inputs = (node.attributes[name].as_int() for name in ("bits", "block_size", "K"))
    if bits not in (4, 8):
        return f"{bits} bits, expected 4 or 8"
    return f"groups of {group} of {inputs} inputs, expected a divisor" if inputs % group else ""


def _one_output(node: "ir.Node") -> str:
    return "more than one output" if any(value.name for value in node.outputs[1:]) else ""


def _arithmetic(types: frozenset[str], *names: str) -> dict[str, Kernel]:
    return {name: Kernel((types,)) for name in names}


_DIRECTML: dict[str, Kernel] = {
    **_arithmetic(NUMBERS, "Add", "Div", "Mul", "Sub"),
    **_arithmetic(FLOATS, "Cos", "Gelu", "MatMul", "Reciprocal", "Sigmoid", "Sin", "Softmax", "Sqrt", "Tanh"),
    **_arithmetic(ALL, "Concat", "Identity", "Transpose"),
    "Cast": Kernel((ALL,), TO),
    "Constant": Kernel((ALL,)),  # becomes an initializer before any provider is asked
    "Erf": Kernel((FLOATS,)),
    "Expand": Kernel((ALL, INT64)),
    "Gather": Kernel((ALL, INDICES)),
    "Greater": Kernel((NUMBERS,), "bool"),
    "LayerNormalization": Kernel((FLOATS,)),
    "Less": Kernel((NUMBERS,), "bool"),
    "Neg": Kernel((FLOATS | {"int8", "int16", "int32", "int64"},)),
    "Pow": Kernel((FLOATS | {"int32"}, NUMBERS - {"int64", "uint64"})),
    "Range": Kernel((frozenset({"float", "int16", "int32", "int64"}),)),
    "GreaterOrEqual": Kernel((NUMBERS,), "bool"),
    "ReduceMax": Kernel((FLOATS | {"int32", "int64", "uint32", "uint64"}, INT64)),
    "ReduceMean": Kernel((FLOATS, INT64)),
    "ReduceSum": Kernel((FLOATS | {"int32", "int64", "uint32", "uint64"}, INT64)),
    "Relu": Kernel((FLOATS | {"int8", "int16", "int32"},)),
    "Reshape": Kernel((ALL, INT64)),
    "Shape": Kernel((ALL,), "int64"),
    "SimplifiedLayerNormalization": Kernel((FLOATS,)),
    "Slice": Kernel((ALL, INDICES)),
    "Split": Kernel((ALL, INT64)),
    "Squeeze": Kernel((ALL, INT64)),
    "Unsqueeze": Kernel((ALL, INT64)),
    "Where": Kernel((BOOL, ALL, ALL), 1),
    "com.microsoft.FastGelu": Kernel((FLOATS,)),
    "com.microsoft.Gelu": Kernel((FLOATS,)),
    "com.microsoft.QuickGelu": Kernel((FLOATS,)),
    "com.microsoft.GroupQueryAttention": Kernel(
        (*[FLOATS] * 5, frozenset({"int32"}), frozenset({"int32"}), FLOATS, FLOATS, INT64, FLOATS)
    ),
    # the type of zero points is not in the list; those of exports are uint8
    "com.microsoft.MatMulNBits": Kernel(
        (FLOATS, frozenset({"uint8"}), FLOATS, frozenset({"uint8"})), most=4, hindrance=_whole_groups
    ),
    "com.microsoft.RotaryEmbedding": Kernel((FLOATS, INT64, FLOATS, FLOATS)),
    "com.microsoft.SkipLayerNormalization": Kernel((FLOATS,)),
    "com.microsoft.SkipSimplifiedLayerNormalization": Kernel((FLOATS,)),
}

RTX_FLOATS = FLOATS | {"bfloat16"}
RTX_NUMBERS = RTX_FLOATS | INDICES
RTX_ALL = RTX_NUMBERS | BOOL
_TENSORRT_RTX: dict[str, Kernel] = {
    **_arithmetic(RTX_NUMBERS, "Add", "Div", "Mul", "Neg", "Pow", "Range", "Sub"),
    **_arithmetic(RTX_FLOATS, "Cos", "Erf", "MatMul", "Reciprocal", "Sigmoid", "Sin", "Softmax", "Sqrt", "Tanh"),
    **_arithmetic(RTX_ALL, "Concat", "Constant", "Identity", "Transpose"),
    "Cast": Kernel((RTX_ALL | {"uint8"},), TO),
    "DequantizeLinear": Kernel((frozenset({"int4", "int8"}), RTX_FLOATS), 1, most=2),  # a zero point has to be zero
    "Expand": Kernel((RTX_ALL, INT64)),
    "Gather": Kernel((RTX_ALL, INDICES)),
    "Gelu": Kernel((RTX_NUMBERS | {"int8"},)),
    "Greater": Kernel((RTX_NUMBERS,), "bool"),
    "If": Kernel((BOOL,), "float16"),
    "LayerNormalization": Kernel((RTX_FLOATS,), hindrance=_one_output),
    "Less": Kernel((RTX_NUMBERS,), "bool"),
    "ReduceMean": Kernel((RTX_NUMBERS, INT64), constant=(1,)),
    "ReduceSum": Kernel((RTX_NUMBERS, INT64), constant=(1,)),
    "Relu": Kernel((RTX_NUMBERS,)),
    "Reshape": Kernel((RTX_ALL, INT64)),
    "Shape": Kernel((RTX_ALL,), "int64"),
    "Slice": Kernel((RTX_ALL, INDICES)),
    "Split": Kernel((RTX_ALL, INT64)),
    "Squeeze": Kernel((RTX_ALL, INT64)),
    "Unsqueeze": Kernel((RTX_ALL, INT64)),
    "Where": Kernel((BOOL, RTX_ALL, RTX_ALL), 1),
    "com.microsoft.GroupQueryAttention": Kernel(
        (*[RTX_FLOATS - {"float"}] * 5, *[frozenset({"int32"})] * 2, *[RTX_FLOATS - {"float"}] * 2)
    ),
}

DOCUMENTED: Mapping[str, dict[str, Kernel]] = {DIRECTML: _DIRECTML, TENSORRT_RTX: _TENSORRT_RTX}


def check_structure(path: Path, provider: str) -> None:
    """PressError, which names the node, unless ``provider`` documents all that the graph in ``path`` is made of.

    Nothing is computed, and no weight is read. The adapters' inputs have to be there, of the type that is computed in,
    with defaults of rank one that are zero.
    """
    from olivepress.export.graph import load

    model = load(path)
    types: dict[str, str] = {}
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        types[value.name] = value.dtype.name.lower()
    for node in model.graph.all_nodes():
        _check_node(path, provider, node, types)
    _check_adapters(path, model.graph)


def _check_node(path: Path, provider: str, node: "ir.Node", types: dict[str, str]) -> None:
    """Look one node up, and note in ``types`` what its results are."""
    name = f"{node.domain}.{node.op_type}".removeprefix("ai.onnx.").removeprefix(".")
    kernel = DOCUMENTED[provider].get(name)
    if kernel is None:
        raise _refused(path, provider, node, "is no operator that it documents")
    values = list(node.inputs)
    while values and values[-1] is None:
        values.pop()
    if kernel.most is not None and len(values) > kernel.most:
        raise _refused(path, provider, node, f"has {len(values)} inputs, expected at most {kernel.most}")
    for number, value in enumerate(values):
        if value is None:
            continue
        kind, allowed = types.get(value.name, "unknown"), kernel.inputs[min(number, len(kernel.inputs) - 1)]
        if kind not in allowed:
            expected = " or ".join(sorted(allowed))
            raise _refused(path, provider, node, f"reads {value.name} of type {kind}, expected {expected}")
        if number in kernel.constant and not _is_constant(value):
            raise _refused(path, provider, node, f"reads {value.name}, expected a constant")
    if reason := kernel.hindrance(node):
        raise _refused(path, provider, node, f"has {reason}")
    for number, value in enumerate(node.outputs):
        types[value.name] = _result(kernel, node, number, types)


def _result(kernel: Kernel, node: "ir.Node", number: int, types: dict[str, str]) -> str:
    """The type of an output."""
    import onnx_ir as ir

    if node.op_type == "Constant":
        (held,) = node.attributes.values()
        return held.as_tensor().dtype.name.lower() if held.type == ir.AttributeType.TENSOR else "int64"
    if kernel.result == TO:
        return ir.DataType(node.attributes["to"].as_int()).name.lower()
    if isinstance(kernel.result, str):
        declared = node.outputs[number].dtype
        return declared.name.lower() if node.op_type == "If" and declared else kernel.result
    return types.get(node.inputs[kernel.result].name, "unknown")


def _is_constant(value: "ir.Value") -> bool:
    producer = value.producer()
    return (value.is_initializer() and not value.is_graph_input()) or (
        producer is not None and producer.op_type == "Constant"
    )


def _check_adapters(path: Path, graph: "ir.Graph") -> None:
    """PressError unless there are adapters' inputs, in pairs, each with a default that adds nothing."""
    from olivepress.export.projections import INPUT

    inputs = [value for value in graph.inputs if INPUT.fullmatch(value.name)]
    names = {value.name for value in inputs}
    computed = {value.dtype for value in graph.outputs if value.name == "logits"}
    if not inputs:
        raise PressError(f"{path}: no input for an adapter.")
    for value in inputs:
        side, other = ("lora_A", "lora_B") if ".lora_A." in value.name else ("lora_B", "lora_A")
        default = value.const_value
        if value.name.replace(side, other) not in names:
            raise PressError(f"{path}: {value.name} has no {other} beside it.")
        if value.dtype not in computed:
            raise PressError(f"{path}: {value.name} is {value.dtype.name}, unlike the logits.")
        if default is None or 0 in default.numpy().shape or default.numpy().any():
            raise PressError(f"{path}: {value.name} has no default of zeros.")


def _refused(path: Path, provider: str, node: "ir.Node", reason: str) -> PressError:
    return PressError(
        f"{path.name}: {node.name}: {node.op_type} {reason} ({provider}; olivepress/export/structure.py names the "
        "documents). Nothing was written."
    )
