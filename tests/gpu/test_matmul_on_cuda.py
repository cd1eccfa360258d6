"""The products with int4 and int8 weights on a GPU: against float64, for few tokens and for many."""

import numpy as np
import one_operator
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

FEW = 32  # tokens that are multiplied with the weights as they are (cuda.c)
TOKENS = (1, 2, 7, 8, 9, 16, 17, FEW, FEW + 1, 100)


class Weights:
    """Random integers [N, K], scales and zero points [N, K / block], as MatMulNBits reads them."""

    def __init__(self, bits: int, block: int, n: int, k: int) -> None:
        rng = np.random.default_rng([bits, block, n, k])
        self.bits, self.block, self.n, self.k = bits, block, n, k
        self.integers = rng.integers(0, 1 << bits, (n, k), np.uint8)
        self.scales = rng.uniform(0.5, 2, (n, k // block)).astype(np.float16)
        self.zeros = rng.integers(0, 1 << bits, (n, k // block), np.uint8)
        self.x = rng.normal(size=(1, max(TOKENS), k)).astype(np.float16)
        difference = self.integers.reshape(n, -1, block).astype(np.float64) - self.zeros[..., None]
        self.values = (difference * self.scales[..., None]).reshape(n, k)

    def session(self) -> onnxruntime.InferenceSession:
        inputs = {
            "weights": one_operator.packed(self.integers, self.bits).reshape(self.n, self.k // self.block, -1),
            "scales": self.scales,
            "zeros": one_operator.packed(self.zeros, self.bits),
        }
        attributes = {"K": self.k, "N": self.n, "bits": self.bits, "block_size": self.block}
        node = helper.make_node("MatMulNBits", ["x", *inputs], ["y", "w"], domain="olivepress.cuda", **attributes)
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, "tokens", self.k])
        weights = [numpy_helper.from_array(value, name) for name, value in inputs.items()]
        types = [TensorProto.FLOAT16, TensorProto.FLOAT16]
        return one_operator.session(node, [x], 1, weights, types, "CUDAExecutionProvider")


# 16 rows at a time, of which the last may be too many; rows for four warps and for eight; uneven shares of a row
@pytest.mark.parametrize("shape", [(1, 128), (16, 256), (40, 640), (576, 1536), (3080, 3072), (72, 8192)])
@pytest.mark.parametrize("block", [32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
def test_it_is_the_product(bits, block, shape):
    weights = Weights(bits, block, *shape)
    session = weights.session()
    size = np.abs(weights.x[0].astype(np.float64)) @ np.abs(weights.values).T
    alone = session.run(["y"], {"x": weights.x[:, :1]})[0]
    for tokens in TOKENS:
        x = weights.x[:, :tokens]
        (y,) = session.run(["y"], {"x": x})
        expected = x[0].astype(np.float64) @ weights.values.T
        assert y.shape == (1, tokens, weights.n) and y.dtype == np.float16
        # the result is rounded to float16; for many tokens each weight, too
        error = 2**-11 * np.abs(expected) + (2e-6 if tokens <= FEW else 2**-11) * size[:tokens]
        assert (np.abs(y[0] - expected) <= error).all()
        if tokens <= FEW:
            assert (y[:, :1] == alone).all(), "a token's bits depend on its neighbours"


def test_it_gives_the_same_bits_again():
    weights = Weights(4, 128, 9216, 3072)
    session = weights.session()
    first = session.run(["y"], {"x": weights.x[:, :1]})[0]
    for _ in range(20):
        assert (session.run(["y"], {"x": weights.x[:, :1]})[0] == first).all()


def test_inputs_that_do_not_go_together_are_refused():
    weights = Weights(4, 32, 64, 128)
    weights.scales = weights.scales[:, 1:]
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail, match="do not go together"):
        weights.session().run(["y"], {"x": weights.x[:, :1]})
