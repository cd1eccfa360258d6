"""A session of one node, for the tests of the native operators on a CPU."""

from collections.abc import Sequence

import onnxruntime
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from olivepress.export.operator_library import check_library


def session(
    node: NodeProto,
    inputs: Sequence[ValueInfoProto],
    threads: int,
    weights: Sequence[TensorProto] = (),
    outputs: Sequence[int] = (),
) -> onnxruntime.InferenceSession:
    """``node`` with the library loaded: ``weights`` are its constant inputs, its outputs of any shape.

    ``outputs``: their types, float32 by default.
    """
    types = outputs or [TensorProto.FLOAT] * len(node.output)
    results = [helper.make_tensor_value_info(*each, None) for each in zip(node.output, types, strict=True)]
    graph = helper.make_graph([node], "one", inputs, results, weights)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid(node.domain, 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(check_library()))
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
