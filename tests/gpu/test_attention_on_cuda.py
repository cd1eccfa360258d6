"""The attention of CUDA graphs: against its arithmetic in float64, and a row's bits alone and beside others."""

from dataclasses import dataclass

import numpy as np
import one_operator
import onnxruntime
import pytest
from onnx import TensorProto, helper
from test_attention_operator import RNG, Heads

NEAR = 1e-2  # float16 queries, keys and results; several tokens' weights, too


@dataclass(frozen=True)
class OnCuda(Heads):
    """The operator's node, and its inputs, in float16."""

    @property
    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        cos, sin = super().tables
        return cos.astype(np.float16), sin.astype(np.float16)

    def new(self, batch: int, tokens: int) -> list[np.ndarray]:
        return [one.astype(np.float16) for one in super().new(batch, tokens)]

    def session(self) -> onnxruntime.InferenceSession:
        half, whole = TensorProto.FLOAT16, TensorProto.INT32
        types = {
            "query": half,
            **({} if self.packed else {"key": half, "value": half}),
            "past_key": half,
            "past_value": half,
            "lengths": whole,
            "total": whole,
            **({"cos": half, "sin": half} if self.rotated else {}),
        }
        names = ("query", "key", "value", "past_key", "past_value", "lengths", "total", "cos", "sin")
        node = helper.make_node(
            "GroupQueryAttention",
            [name if name in types else "" for name in names],
            ["y", "present_key", "present_value", "scratch"],
            domain="olivepress.cuda",
            num_heads=self.heads,
            kv_num_heads=self.kv_heads,
            scale=self.scale,
            local_window_size=self.window,
            do_rotary=int(self.rotated > 0),
        )
        inputs = [helper.make_tensor_value_info(name, dtype, None) for name, dtype in types.items()]
        outputs = (half, half, half, TensorProto.FLOAT)
        return one_operator.session(node, inputs, 1, outputs=outputs, provider="CUDAExecutionProvider")

    def check(self, batch: int, tokens: int, past: int, lengths: list[int] | None = None) -> None:
        new, before, total = self.new(batch, tokens), self.past(batch, past), past + tokens
        lengths = lengths or [total] * batch
        y, keys, values, _ = self.session().run(None, self.feeds(new, before, lengths, total))
        assert y.shape == (batch, tokens, self.heads * self.size) and y.dtype == np.float16
        assert keys.shape == values.shape == (batch, self.kv_heads, total, self.size)
        for row, length in enumerate(lengths):
            start = 0 if past == 0 else length - tokens
            placed = slice(start, start + tokens)
            rotated = self.rotate(new[1][row], start + np.arange(tokens)).swapaxes(0, 1)
            np.testing.assert_array_equal(values[row, :, placed], new[2][row].swapaxes(0, 1))
            np.testing.assert_allclose(keys[row, :, placed], rotated, rtol=2**-10, atol=1e-3)
            for cache, old in zip((keys, values), before, strict=True):
                np.testing.assert_array_equal(cache[row, :, :start], old[row, :, :start])
            seen = slice(None) if past else slice(0, length)
            expected = self.attend(new[0][row], keys[row], values[row], start, length)
            np.testing.assert_allclose(y[row].reshape(expected.shape)[seen], expected[seen], rtol=0, atol=NEAR)


SHAPES = [
    OnCuda(),
    OnCuda(packed=False),
    OnCuda(heads=4, kv_heads=4, size=96, rotated=96),
    OnCuda(heads=8, kv_heads=2, size=128, rotated=64, packed=False),
    OnCuda(heads=5, kv_heads=1, size=96, rotated=32, scale=0.3),
    OnCuda(heads=14, kv_heads=2, size=64, rotated=0),
    OnCuda(heads=2, kv_heads=1, size=128, rotated=128, window=150),
    OnCuda(window=7),
]


@pytest.fixture(autouse=True)
def same_numbers():
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.mark.parametrize("heads", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("tokens", "past"),
    [(1, 0), (1, 1), (1, 63), (1, 64), (1, 300), (1, 1100), (3, 126), (2, 0), (33, 0), (64, 0), (150, 0), (37, 140)],
)
def test_the_attention(heads, tokens, past):
    heads.check(1, tokens, past)


@pytest.mark.parametrize("heads", SHAPES, ids=str)
def test_rows_of_other_lengths(heads):
    heads.check(3, 20, 0, [20, 7, 13])
    heads.check(3, 1, 140, [141, 9, 130])
    heads.check(3, 5, 140, [145, 9, 130])


def test_a_long_row():
    OnCuda().check(1, 1, 2100)
    OnCuda(heads=3, kv_heads=1).check(1, 6, 2100)


def shared(heads: OnCuda, new: list[np.ndarray], before: list[np.ndarray], lengths: list[int], total: int) -> list:
    """y, keys and values, where these are written in place, as GenAI and `olivepress serve` have it."""
    session = heads.session()
    caches = [onnxruntime.OrtValue.ortvalue_from_numpy(one, "cuda", 0) for one in before]
    binding = session.io_binding()
    for name, value in heads.feeds(new, before, lengths, total).items():
        if not name.startswith("past"):
            binding.bind_cpu_input(name, value)
    for name, value in zip(("key", "value"), caches, strict=True):
        binding.bind_ortvalue_input(f"past_{name}", value)
        binding.bind_ortvalue_output(f"present_{name}", value)
    binding.bind_output("y")
    binding.bind_output("scratch", "cuda")
    for _ in range(3):  # what the last has left behind changes nothing
        session.run_with_iobinding(binding)
    y = binding.get_outputs()[-2]  # in the order in which they were bound
    return [y.numpy(), *(one.numpy() for one in caches)]


@pytest.mark.parametrize("tokens", [1, 30])
def test_past_and_present_in_one_buffer(tokens):
    heads, past, capacity = OnCuda(), 150, 200
    new, before = heads.new(1, tokens), heads.past(1, capacity)
    for cache in before:
        cache[:, :, past:] = np.nan
    total = past + tokens
    apart = heads.session().run(None, heads.feeds(new, [one[:, :, :past] for one in before], [total], total))
    for given in (total, capacity):  # GenAI gives the longest length with CUDA graphs
        y, *caches = shared(heads, new, before, [total], given)
        np.testing.assert_array_equal(y, apart[0])
        for found, expected in zip(caches, apart[1:3], strict=True):
            np.testing.assert_array_equal(found[:, :, :total], expected)
            assert np.isnan(found[:, :, total:]).all()


@pytest.mark.parametrize("heads", SHAPES, ids=str)
def test_a_rows_bits_depend_on_no_other_row(heads):
    """One token each, behind pasts of 9 to 1,000 tokens in buffers of one length."""
    lengths = [400, 9, 130, 1000, 65]
    new, before = heads.new(5, 1), heads.past(5, 1024)
    y, *_ = shared(heads, new, before, lengths, max(lengths))
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone, *_ = shared(heads, [part[one] for part in new], [part[one] for part in before], [length], length)
        np.testing.assert_array_equal(alone[0], y[row])


def test_what_is_no_number_reaches_those_who_see_it():
    heads = OnCuda(heads=2, kv_heads=1)
    for tokens in (1, 40):
        before = heads.past(1, 100)
        before[0][0, 0, 7, 5] = np.nan
        y, *_ = heads.session().run(None, heads.feeds(heads.new(1, tokens), before, [100 + tokens], 100 + tokens))
        assert np.isnan(y).all()


def test_heads_that_there_is_no_kernel_for_are_refused():
    heads = OnCuda(size=80, rotated=32)
    with pytest.raises(Exception, match="heads must be of 64, 96 or 128 values"):
        heads.session().run(None, heads.feeds(heads.new(1, 1), heads.past(1, 6), [7], 7))
