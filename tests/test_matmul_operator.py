"""The CPU's product with quantized weights: against its arithmetic in float64 and against ONNX Runtime's operator."""

import numpy as np
import one_operator
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers():
    """Each test gets the same numbers whichever ran before it: now and then x / scale lies so near to a half that the
    kernel's float32 and the reference round it to different integers."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


TOKENS = (1, 2, 3, 7, 8, 9, 65)


class Weights:
    """Random integers [N, K], scales and zero points [N, K / block], and a node's inputs made of them."""

    def __init__(self, bits: int, block: int, n: int, k: int) -> None:
        self.bits, self.block, self.n, self.k = bits, block, n, k
        self.integers = RNG.integers(0, 1 << bits, (n, k), np.uint8)
        self.scales = RNG.uniform(0.5, 2, (n, k // block)).astype(np.float32)
        self.zeros = RNG.integers(0, 1 << bits, (n, k // block), np.uint8)

    def session(self, domain: str, threads: int = 2) -> onnxruntime.InferenceSession:
        blocks = self.k // self.block
        inputs = {
            "weights": one_operator.packed(self.integers, self.bits).reshape(self.n, blocks, -1),
            "scales": self.scales,
            "zeros": one_operator.packed(self.zeros, self.bits),
        }
        if self.bits == 4:
            inputs |= {"scales": self.scales.ravel(), "zeros": inputs["zeros"].ravel()}
        attributes = {"K": self.k, "N": self.n, "bits": self.bits, "block_size": self.block, "accuracy_level": 4}
        node = helper.make_node("MatMulNBits", ["x", *inputs], ["y"], domain=domain, **attributes)
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "tokens", self.k])
        weights = [numpy_helper.from_array(value, name) for name, value in inputs.items()]
        return one_operator.session(node, [x], threads, weights)

    def run(self, x: np.ndarray, domain: str = "olivepress.cpu", threads: int = 2) -> np.ndarray:
        return self.session(domain, threads).run(None, {"x": x})[0]

    def expected(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The product in float64 with x rounded as the operator does it, and the size of what it is the sum of."""
        blocks = x.reshape(*x.shape[:-1], -1, self.block)
        largest = np.abs(blocks).max(-1, keepdims=True)
        with np.errstate(divide="ignore"):
            inverse = np.where(largest > 0, np.float32(127) / largest, np.float32(0))
        rounded = np.rint(blocks * inverse).astype(np.float64)
        weights = self.integers.reshape(self.n, -1, self.block).astype(np.float64)
        scales = self.scales * (largest / np.float32(127)).swapaxes(-1, -2)

        def product(x: np.ndarray, sign: int) -> np.ndarray:
            blocks = np.einsum("...bi,nbi->...nb", x, weights) + sign * x.sum(-1)[..., None, :] * self.zeros
            return (blocks * scales).sum(-1)

        return product(rounded, -1), product(np.abs(rounded), 1)

    def check(self, x: np.ndarray) -> np.ndarray:
        y, (expected, size) = self.run(x), self.expected(x)
        assert y.shape == expected.shape and y.dtype == np.float32
        assert (np.abs(y - expected) <= 3e-7 * size).all()
        return y


def tokens(count: int, k: int) -> np.ndarray:
    return RNG.normal(size=(1, count, k)).astype(np.float32)


KINDS = [(bits, block) for bits in (4, 8) for block in (32, 64, 128)]
# K of one block, of an odd number, of a whole step of eight, of more; N of tiles and not
SIZES = [(40, 1), (528, 5), (64, 8), (33, 22)]


@pytest.mark.parametrize(("bits", "block"), KINDS)
@pytest.mark.parametrize(("n", "blocks"), SIZES)
def test_the_product(bits, block, n, blocks):
    weights = Weights(bits, block, n, blocks * block)
    for count in TOKENS:
        weights.check(tokens(count, weights.k))


@pytest.mark.parametrize(("bits", "block"), KINDS)
def test_a_long_row(bits, block):
    weights = Weights(bits, block, 2048, 8192)
    for count in (1, 9):
        weights.check(tokens(count, 8192))


@pytest.mark.parametrize(("bits", "block"), KINDS)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_integers_fit(bits, block, sign):
    """Every weight at its end, every x at its own: the largest sums that there can be."""
    weights = Weights(bits, block, 48, 10 * block)
    for integers, zeros in ((0, -1), (-1, 0)):
        weights.integers[:] = integers % (1 << bits)
        weights.zeros[:] = zeros % (1 << bits)
        for count in (1, 5):
            weights.check(np.full((1, count, weights.k), sign * 3.7, np.float32))


@pytest.mark.parametrize(("bits", "block"), KINDS)
def test_blocks_of_zeros_and_outliers(bits, block):
    weights = Weights(bits, block, 48, 11 * block)
    x = tokens(6, weights.k)
    x[:, :, : 2 * block] = 0
    x[:, 3] = 0
    x[:, 4, 5 * block] = 1e6
    x[:, 5, 6 * block] = -1e30
    x[:, 2] *= 1e-30
    y = weights.check(x)
    np.testing.assert_array_equal(weights.run(x[:, 3:4]), y[:, 3:4])
    assert not y[:, 3].any()


@pytest.mark.parametrize(("bits", "block"), KINDS)
@pytest.mark.parametrize("odd", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_no_integer_says_is_passed_on(bits, block, odd):
    """A token with an infinite or undefined value has no product; the tokens beside it have theirs."""
    weights = Weights(bits, block, 48, 11 * block)
    x = tokens(9, weights.k)
    wanted = weights.check(x)
    x[:, 3, 5 * block + 7] = odd
    y = weights.run(x)
    assert np.isnan(y[:, 3]).all()
    np.testing.assert_array_equal(np.delete(y, 3, axis=1), np.delete(wanted, 3, axis=1))


@pytest.mark.parametrize(("bits", "block"), KINDS)
@pytest.mark.parametrize("blocks", [8, 13])
def test_as_onnx_runtimes_own(bits, block, blocks):
    """Which rounds x by the same rule; the few values that fall between two integers may go the other way."""
    weights = Weights(bits, block, 272, blocks * block)
    for count in (1, 3, 65):
        x = tokens(count, weights.k)
        y, theirs = weights.run(x), weights.run(x, "com.microsoft")
        assert np.abs(y - theirs).max() < 2e-3 * np.abs(theirs).max()


@pytest.mark.parametrize(("bits", "block"), KINDS)
@pytest.mark.parametrize("n", [1040, 1037])  # rows of weights: whole panels, and one of thirteen
def test_neither_threads_nor_other_tokens_change_a_bit(bits, block, n):
    weights = Weights(bits, block, n, 13 * block)
    x = tokens(135, weights.k)
    one, three = (weights.run(x, threads=threads) for threads in (1, 3))
    np.testing.assert_array_equal(one, three)
    session = weights.session("olivepress.cpu")
    for first, last in ((0, 1), (5, 7), (64, 67), (60, 64), (130, 135)):
        np.testing.assert_array_equal(session.run(None, {"x": x[:, first:last]})[0], one[:, first:last])


def test_no_token():
    assert Weights(4, 32, 64, 64).run(tokens(0, 64)).shape == (1, 0, 64)


@pytest.mark.parametrize("name", ["scales", "zeros"])
def test_inputs_that_do_not_go_together_are_refused(name):
    weights = Weights(4, 32, 64, 128)
    setattr(weights, name, getattr(weights, name)[:-1])
    with pytest.raises(Exception, match="K, N, bits, block_size and the inputs do not go together"):
        weights.run(tokens(1, 128))


@pytest.mark.parametrize(("bits", "block"), KINDS)
@pytest.mark.parametrize(("n", "blocks"), SIZES)
def test_scales_in_float16_change_no_bit(bits, block, n, blocks):
    """They are those numbers in float32, also of the last row, behind which there is nothing to read."""
    weights = Weights(bits, block, n, blocks * block)
    half = weights.scales.astype(np.float16)
    weights.scales = half.astype(np.float32)
    xs = [tokens(count, weights.k) for count in (1, 2, 4, 9)]
    expected = [weights.run(x) for x in xs]
    weights.scales = half
    for x, y in zip(xs, expected, strict=True):
        np.testing.assert_array_equal(weights.run(x), y)


def test_scales_of_another_type_are_refused():
    weights = Weights(4, 32, 16, 64)
    weights.scales = weights.scales.astype(np.float64)
    with pytest.raises(Exception, match="scales must be float32 or float16"):
        weights.run(tokens(1, 64))
