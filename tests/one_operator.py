"""A session of one node, and weights as MatMulNBits packs them, for the tests of the native operators."""

from collections.abc import Sequence

import numpy as np
import onnxruntime
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from olivepress.export.operator_library import check_library


def session(
    node: NodeProto,
    inputs: Sequence[ValueInfoProto],
    threads: int,
    weights: Sequence[TensorProto] = (),
    outputs: Sequence[int] = (),
    provider: str = "CPUExecutionProvider",
) -> onnxruntime.InferenceSession:
    """``node`` with the library for ``provider`` loaded: ``weights`` are its constant inputs, its outputs of any shape.

    ``outputs``: their types, float32 by default.
    """
    types = outputs or [TensorProto.FLOAT] * len(node.output)
    results = [helper.make_tensor_value_info(*each, None) for each in zip(node.output, types, strict=True)]
    graph = helper.make_graph([node], "one", inputs, results, weights)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid(node.domain, 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(check_library(provider)))
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[provider])


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers [N, ..] of 4 or 8 bits: of 4 two a byte, the first in the low half, each row from a byte of its own."""
    if bits == 8:
        return values
    values = np.pad(values, ((0, 0), (0, values.shape[1] % 2)))
    return values[:, ::2] | values[:, 1::2] << 4


def with_zeros(b: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """B [rank, N] of blocks of these widths side by side as the block-diagonal one, [blocks·rank, N]."""
    mask = np.repeat(np.eye(len(widths), dtype=b.dtype), widths, axis=1)
    return (b * mask[:, None]).reshape(len(widths) * len(b), -1)
