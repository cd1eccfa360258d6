"""One MatMulNBits for gate and up, which the GenAI builder exports apart although they read the same input.

Two launches (on a CPU: two trips through the thread pool) become one, and so do those of the LoRA path over them. The
builder already does this for q, k and v.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

NAME = "/model/layers.{layer}/mlp/{projection}/MatMulNBits"
GATE, UP, PACKED = "gate_proj", "up_proj", "gate_up_proj"


@dataclass(frozen=True)
class Bytes:
    """Where an initializer lies in the external data file: offset and length in bytes."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


def pack_gate_up(model_path: Path) -> int:
    """Pack gate and up of every layer of the ONNX file, in place; returns the number of layers packed.

    The rows of up follow those of gate, as in Phi-3's own gate_up_proj, and a Split gives the two back under their old
    names. In the data file the six tensors lie side by side, so they are put in order within the space that they have:
    the file is neither copied nor does it grow. A layer that is laid out otherwise is left as it is.
    """
    import onnx

    model = onnx.load(model_path, load_external_data=False)
    graph = model.graph
    nodes = {node.name: node for node in graph.node}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    places = {name: _place(tensor) for name, tensor in tensors.items() if tensor.external_data}
    replaced: dict[str, list[onnx.NodeProto]] = {}
    layers = 0
    with model_path.with_name(model_path.name + ".data").open("r+b") as data:
        while (gate := nodes.get(NAME.format(layer=layers, projection=GATE))) is not None:
            up = nodes.get(NAME.format(layer=layers, projection=UP))
            pairs = _pairs(gate, up, places)
            if not pairs:
                break
            stretch = [(places[first], places[second]) for first, second in pairs]
            _interleave(data, stretch)
            offset = min(place.offset for pair in stretch for place in pair)
            name = NAME.format(layer=layers, projection=PACKED)
            inputs = [gate.input[0]]
            for first, second in pairs:
                length = places[first].length + places[second].length
                inputs.append(first.replace(GATE, PACKED))
                _merge(tensors[first], tensors[second], inputs[-1], Bytes(offset, length))
                graph.initializer.remove(tensors[second])
                offset += length
            replaced[gate.name], replaced[up.name] = _nodes(gate, up, name, inputs), []
            _declare(graph, gate.output[0], f"{name}/output_0", _attribute(gate, "N") + _attribute(up, "N"))
            layers += 1
    if layers:
        kept = [new for node in graph.node for new in replaced.get(node.name, [node])]
        del graph.node[:]
        graph.node.extend(kept)
        onnx.save(model, model_path)
    return layers


def _place(tensor: "onnx.TensorProto") -> Bytes:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return Bytes(int(entries.get("offset", 0)), int(entries["length"]))


def _attribute(node: "onnx.NodeProto", name: str) -> int:
    return next(attribute.i for attribute in node.attribute if attribute.name == name)


def _pairs(
    gate: "onnx.NodeProto", up: "onnx.NodeProto | None", places: dict[str, Bytes]
) -> list[tuple[str, str]] | None:
    """(gate's, up's) weights, scales, zero points; None unless the two nodes differ in nothing but these.

    Also None unless the tensors, and nothing else, fill one stretch of the data file.
    """
    if up is None or gate.input[0] != up.input[0] or len(gate.input) != len(up.input):
        return None
    if any(_attribute(gate, name) != _attribute(up, name) for name in ("K", "bits", "block_size", "accuracy_level")):
        return None
    names = [*gate.input[1:], *up.input[1:]]
    if not all(name in places for name in names):
        return None  # one is left out, or small enough to be inside the graph
    begin, end = min(places[name].offset for name in names), max(places[name].end for name in names)
    between = [name for name, place in places.items() if place.offset < end and place.end > begin]
    return list(zip(gate.input[1:], up.input[1:], strict=True)) if sorted(between) == sorted(names) else None


def _interleave(data: "object", pairs: list[tuple[Bytes, Bytes]]) -> None:
    """Rewrite a stretch of the file so that the halves of every pair follow each other."""
    parts = []
    for place in (place for pair in pairs for place in pair):
        data.seek(place.offset)
        parts.append(data.read(place.length))
    data.seek(min(place.offset for pair in pairs for place in pair))
    data.write(b"".join(parts))


def _merge(first: "onnx.TensorProto", second: "onnx.TensorProto", name: str, place: Bytes) -> None:
    """Turn ``first`` into the packed tensor: both are stacked along their first axis, which is the outputs'."""
    first.name = name
    first.dims[0] += second.dims[0]
    for entry in first.external_data:
        if entry.key in ("offset", "length"):
            entry.value = str(getattr(place, entry.key))


def _nodes(gate: "onnx.NodeProto", up: "onnx.NodeProto", name: str, inputs: list[str]) -> "list[onnx.NodeProto]":
    import onnx
    from onnx import helper

    packed = onnx.NodeProto()
    packed.CopyFrom(gate)
    packed.name = name
    packed.input[:], packed.output[:] = inputs, [f"{name}/output_0"]
    for attribute in packed.attribute:
        if attribute.name == "N":
            attribute.i += _attribute(up, "N")
    halves = [gate.output[0], up.output[0]]
    return [packed, helper.make_node("Split", [packed.output[0]], halves, f"{name}/Split", axis=-1, num_outputs=2)]


def _declare(graph: "onnx.GraphProto", like: str, name: str, outputs: int) -> None:
    """Give the packed output the type and shape of a half, ``outputs`` wide."""
    half = next(value for value in graph.value_info if value.name == like)
    whole = graph.value_info.add()
    whole.CopyFrom(half)
    whole.name = name
    whole.type.tensor_type.shape.dim[-1].dim_value = outputs
