"""The attention of a CUDA graph: the project's in the place of ONNX Runtime's; both keep float16 in their cache.

For one token ONNX Runtime's takes four kernels and two to four times as long (operators/native/attention.cu).
"""

import onnx_ir as ir

from olivepress.export.passes.half_cache import take_attention

SIZES = (64, 96, 128)  # values of a head that there are kernels for


class CudaAttention(ir.passes.InPlacePass):
    """Turn every GroupQueryAttention into the project's own: all or none, with a note why."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        provider = "CUDAExecutionProvider"
        return ir.passes.PassResult(
            model, modified=take_attention(model, provider, SIZES, "attention stays ONNX Runtime's")
        )
