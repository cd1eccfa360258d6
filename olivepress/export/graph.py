"""An ONNX file as an onnx-ir model, and back. The graph is read into memory; the weights stay in their file, mapped."""

from collections.abc import Hashable
from pathlib import Path

import onnx
import onnx_ir as ir

DECLARED = "olivepress.declared"  # in a graph's meta: the file's value_info


def load(path: Path) -> ir.Model:
    """The graph of an ONNX file.

    Weights are mapped when they are read, not before. onnx-ir refuses to read them from a link, as a guard against
    attacks, and DVC may link what it checks out: read weights of a stage's own fresh files only.
    """
    proto = onnx.load(path, load_external_data=False)
    model = ir.from_proto(proto)
    ir.external_data.set_base_dir(model.graph, path.parent)
    model.graph.meta[DECLARED] = list(proto.graph.value_info)
    return model


def save(model: ir.Model, path: Path) -> None:
    """Write the graph; and the data file too where a pass has made new weights, else that stays as it is."""
    _write_weights(model.graph, path.with_name(f"{path.name}.data"))
    proto = ir.to_proto(model)
    _declare(proto.graph, model.graph.meta.get(DECLARED, []))
    onnx.save(proto, path)


def _write_weights(graph: ir.Graph, path: Path) -> None:
    """Write the data file anew, dense and in the order of the initializers, if some of them are still lazy.

    A lazy tensor is what a pass makes from weights in the data file; it is computed here, one at a time. Tensors that
    lie inside the graph stay there. Those that lie at one place of the file are written once, and lie at one again.
    """
    outside = (ir.ExternalTensor, ir.LazyTensor)
    values = [value for value in graph.initializers.values() if isinstance(value.const_value, outside)]
    if not any(isinstance(value.const_value, ir.LazyTensor) for value in values):
        return
    places: dict[Hashable, list[ir.Value]] = {}
    for value in values:
        places.setdefault(place(value.const_value), []).append(value)
    # under another name first: onnx-ir warns of every tensor whose file it overwrites
    fresh = path.with_name(f"{path.name}.new")
    tensors = ir.external_data.convert_tensors_to_external(
        [first.const_value for first, *_ in places.values()], path.parent, fresh.name
    )
    fresh.replace(path)
    for same, tensor in zip(places.values(), tensors, strict=True):
        for value in same:
            value.const_value = ir.ExternalTensor(
                path.name,
                tensor.offset,
                tensor.length,
                value.const_value.dtype,
                shape=value.const_value.shape,
                name=value.name,
                base_dir=path.parent,
            )


def place(tensor: ir.TensorProtocol) -> Hashable:
    """Where a tensor's bytes lie: two at the same place of the data file are one, under two names or types."""
    return (tensor.offset, tensor.length) if isinstance(tensor, ir.ExternalTensor) and tensor.length else id(tensor)


def _declare(graph: onnx.GraphProto, before: list[onnx.ValueInfoProto]) -> None:
    """The file's own value_info as it was, then the passes' new values; onnx-ir would write all in the nodes' order.

    So the bytes of an exported model are those of releases from before there were passes. Some entries are of values
    that are no more: ONNX Runtime does not mind. Initializers need no entry.
    """
    known = {info.name for info in before} | {tensor.name for tensor in graph.initializer}
    added = [info for info in graph.value_info if info.name not in known]
    del graph.value_info[:]
    graph.value_info.extend([*before, *added])
