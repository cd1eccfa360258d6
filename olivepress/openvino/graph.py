"""The linear layers of a graph that OpenVINO's PyTorch frontend made, by the names that they have in PyTorch."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

MODEL = "openvino_model.xml"
LINEAR = re.compile(r"__module\.(?P<module>[\w.]+)/(?:aten|ov_ext)::linear/MatMul")
PLACE = re.compile(r"layers\.(?P<layer>\d+)\.(?:\w+\.)?(?P<name>\w+)$")


def linear_layers(model: "openvino.Model") -> "dict[str, openvino.Node]":
    """Module's name (model.layers.0.mlp.down_proj) -> its MatMul: inputs x [..., in] and weights [out, in]."""
    named = ((LINEAR.fullmatch(node.get_friendly_name()), node) for node in model.get_ops())
    return {match["module"]: node for match, node in named if match}


def places(model: "openvino.Model") -> dict[tuple[int, str], tuple[str, int, int]]:
    """(layer, projection's name) -> (module's whole name, outputs, inputs) of every linear layer within a decoder's."""
    found = {}
    for module, node in linear_layers(model).items():
        if match := PLACE.search(module):
            outputs, inputs = node.input(1).get_shape()
            found[int(match["layer"]), match["name"]] = (module, outputs, inputs)
    return found
