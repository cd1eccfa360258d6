"""The CPU's attention with a float16 cache: against its arithmetic in float64 and against ONNX Runtime's operator."""

from dataclasses import dataclass

import numpy as np
import one_operator
import onnxruntime
import pytest
from onnx import TensorProto, helper

RNG = np.random.default_rng(0)
OWN, THEIRS = "olivepress.cpu", "com.microsoft"
POSITIONS = 2200  # of cos and sin


@dataclass(frozen=True)
class Heads:
    """A node's settings, and numbers for its inputs."""

    heads: int = 9
    kv_heads: int = 3
    size: int = 64
    rotated: int = 64  # of a head; 0: none, and no tables
    packed: bool = True
    window: int = -1
    scale: float = 0.0

    @property
    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin [POSITIONS, rotated / 2]."""
        frequencies = 1e4 ** -(np.arange(0, self.rotated, 2) / max(self.rotated, 1))
        angles = np.arange(POSITIONS)[:, None] * frequencies
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def session(self, domain: str = OWN, threads: int = 2) -> onnxruntime.InferenceSession:
        cache = TensorProto.FLOAT16 if domain == OWN else TensorProto.FLOAT
        types = {
            "query": TensorProto.FLOAT,
            **({} if self.packed else {"key": TensorProto.FLOAT, "value": TensorProto.FLOAT}),
            "past_key": cache,
            "past_value": cache,
            "lengths": TensorProto.INT32,
            "total": TensorProto.INT32,
            **({"cos": TensorProto.FLOAT, "sin": TensorProto.FLOAT} if self.rotated else {}),
        }
        names = ("query", "key", "value", "past_key", "past_value", "lengths", "total", "cos", "sin")
        node = helper.make_node(
            "GroupQueryAttention",
            [name if name in types else "" for name in names],
            ["y", "present_key", "present_value"],
            domain=domain,
            num_heads=self.heads,
            kv_num_heads=self.kv_heads,
            scale=self.scale,
            local_window_size=self.window,
            do_rotary=int(self.rotated > 0),
        )
        inputs = [helper.make_tensor_value_info(name, dtype, None) for name, dtype in types.items()]
        return one_operator.session(node, inputs, threads, outputs=(TensorProto.FLOAT, cache, cache))

    def new(self, batch: int, tokens: int) -> list[np.ndarray]:
        """Random q, k and v [batch, tokens, heads, size]."""
        return [
            RNG.normal(size=(batch, tokens, heads, self.size)).astype(np.float32)
            for heads in (self.heads, self.kv_heads, self.kv_heads)
        ]

    def past(self, batch: int, length: int) -> list[np.ndarray]:
        """Random keys and values [batch, kv_heads, length, size], float16."""
        shape = (batch, self.kv_heads, length, self.size)
        return [RNG.normal(size=shape).astype(np.float16) for _ in range(2)]

    def feeds(self, new: list[np.ndarray], past: list[np.ndarray], lengths: list[int], total: int) -> dict:
        """The inputs; ``lengths`` and ``total`` as they are, not less 1."""
        flat = [one.reshape(*one.shape[:2], one.shape[2] * self.size) for one in new]
        named = (
            {"query": np.concatenate(flat, -1)}
            if self.packed
            else dict(zip(("query", "key", "value"), flat, strict=True))
        )
        tables = dict(zip(("cos", "sin"), self.tables, strict=True)) if self.rotated else {}
        return {
            **named,
            "past_key": past[0],
            "past_value": past[1],
            "lengths": np.array(lengths, np.int32) - 1,
            "total": np.array([total], np.int32),
            **tables,
        }

    def rotate(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """``x`` [tokens, heads, size] at ``positions`` [tokens], in float64."""
        half = self.rotated // 2
        x = x.astype(np.float64)
        cos, sin = (table[positions][:, None].astype(np.float64) for table in self.tables)
        a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], -1)

    def attend(self, q: np.ndarray, keys: np.ndarray, values: np.ndarray, past: int, length: int) -> np.ndarray:
        """Of one row, in float64: q [tokens, heads, size], keys and values [kv_heads, .., size] -> as q."""
        positions = past + np.arange(len(q))
        q = self.rotate(q, positions) * (self.scale or self.size**-0.5)
        y = np.zeros(q.shape)
        for token, position in enumerate(positions):
            to = min(position + 1, length)
            first = max(0, to - self.window) if self.window > 0 else 0
            for head in range(self.heads):
                cache = head // (self.heads // self.kv_heads)
                scores = keys[cache, first:to].astype(np.float64) @ q[token, head]
                weights = np.exp(scores - scores.max())
                y[token, head] = weights @ values[cache, first:to].astype(np.float64) / weights.sum()
        return y

    def check(self, batch: int, tokens: int, past: int, lengths: list[int] | None = None, threads: int = 2) -> None:
        """One run from a cache of ``past`` places, against float64."""
        new, before, total = self.new(batch, tokens), self.past(batch, past), past + tokens
        lengths = lengths or [total] * batch
        y, keys, values = self.session(threads=threads).run(None, self.feeds(new, before, lengths, total))
        assert y.shape == (batch, tokens, self.heads * self.size) and y.dtype == np.float32
        assert keys.shape == (batch, self.kv_heads, total, self.size) and keys.dtype == values.dtype == np.float16
        for row, length in enumerate(lengths):
            start = 0 if past == 0 else length - tokens
            placed = slice(start, start + tokens)
            rotated = self.rotate(new[1][row], start + np.arange(tokens)).swapaxes(0, 1)
            np.testing.assert_array_equal(values[row, :, placed], new[2][row].swapaxes(0, 1).astype(np.float16))
            assert (np.abs(keys[row, :, placed] - rotated) <= 2**-11 * np.abs(rotated) + 1e-6).all()
            for cache, old in zip((keys, values), before, strict=True):
                np.testing.assert_array_equal(cache[row, :, :start], old[row, :, :start])
                assert not cache[row, :, start + tokens :].any()
            expected = self.attend(new[0][row], keys[row], values[row], start, length)
            np.testing.assert_allclose(y[row].reshape(expected.shape), expected, rtol=0, atol=4e-6)


SHAPES = [
    Heads(),
    Heads(packed=False),
    Heads(heads=4, kv_heads=4, size=96, rotated=96),
    Heads(heads=8, kv_heads=2, size=128, rotated=64, packed=False),
    Heads(heads=5, kv_heads=1, size=80, rotated=32, scale=0.3),
    Heads(heads=14, kv_heads=2, size=16, rotated=0),
    Heads(heads=2, kv_heads=1, size=256, rotated=256, window=150),
    Heads(heads=70, kv_heads=1, size=32, rotated=32),
    Heads(window=7),
]


@pytest.fixture(autouse=True)
def same_numbers():
    """Each test gets the same numbers whichever ran before it."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.mark.parametrize("heads", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("tokens", "past"),
    [(1, 0), (1, 1), (1, 127), (1, 128), (1, 300), (3, 126), (2, 0), (4, 0), (33, 0), (150, 0), (37, 140)],
)
def test_the_attention(heads, tokens, past):
    heads.check(1, tokens, past)


@pytest.mark.parametrize("heads", SHAPES, ids=str)
def test_rows_of_other_lengths(heads):
    """Prompts padded behind, and steps behind pasts of which some are shorter; several tokens behind them, too."""
    heads.check(3, 20, 0, [20, 7, 13])
    heads.check(3, 1, 140, [141, 9, 130])
    heads.check(3, 5, 140, [145, 9, 130])


def test_a_long_row():
    Heads().check(1, 1, 2100)
    Heads(heads=3, kv_heads=1).check(1, 6, 2100)


@pytest.mark.parametrize("heads", [heads for heads in SHAPES if heads.size % 16 == 0], ids=str)
def test_as_onnx_runtimes_own(heads):
    """But for what rounding the cache to float16 does."""
    own, theirs = heads.session(), heads.session(THEIRS)
    for batch, tokens, past in ((1, 40, 0), (2, 1, 160), (1, 17, 160)):
        feeds = heads.feeds(heads.new(batch, tokens), heads.past(batch, past), [past + tokens] * batch, past + tokens)
        wide = {name: feeds[name].astype(np.float32) for name in ("past_key", "past_value")}
        for found, expected in zip(own.run(None, feeds), theirs.run(None, feeds | wide), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=4e-3)


def steps(heads: Heads, new: list[np.ndarray], sizes: list[int], threads: int = 2) -> np.ndarray:
    """What comes of the tokens, so many at a time, each time behind the cache so far."""
    session, done, cache, found = heads.session(threads=threads), 0, heads.past(len(new[0]), 0), []
    for size in sizes:
        some = [one[:, done : done + size] for one in new]
        done += size
        y, *cache = session.run(None, heads.feeds(some, cache, [done] * len(some[0]), done))
        found.append(y)
    return np.concatenate(found, 1)


@pytest.mark.parametrize("heads", SHAPES, ids=str)
def test_neither_threads_nor_other_tokens_change_a_bit(heads):
    """A prompt at once, in parts, and token by token; rows alone and beside others."""
    new = heads.new(2, 150)
    whole = steps(heads, new, [150])
    for sizes, threads in (([150], 1), ([150], 3), ([129, *[1] * 21], 2), ([1, 2, 3, 4, 60, 70, 3, 7], 3)):
        np.testing.assert_array_equal(steps(heads, new, sizes, threads), whole)
    for row in range(2):
        np.testing.assert_array_equal(steps(heads, [one[row : row + 1] for one in new], [150])[0], whole[row])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_no_bit_of_a_long_row(threads):
    heads = Heads()
    feeds = heads.feeds(heads.new(1, 1), heads.past(1, 2000), [2001], 2001)
    one, some = (heads.session(threads=count).run(None, feeds) for count in (1, threads))
    np.testing.assert_array_equal(one[0], some[0])


@pytest.mark.parametrize("tokens", [1, 30])
def test_past_and_present_in_one_buffer(tokens):
    """As ONNX Runtime GenAI has it: what lies behind is neither read nor changed."""
    heads, past, capacity = Heads(), 150, 200
    new, before = heads.new(1, tokens), heads.past(1, capacity)
    for cache in before:
        cache[:, :, past:] = np.nan
    session, total = heads.session(), past + tokens
    apart = session.run(None, heads.feeds(new, [one[:, :, :past] for one in before], [total], total))
    shared = [onnxruntime.OrtValue.ortvalue_from_numpy(one) for one in before]
    binding = session.io_binding()
    for name, value in heads.feeds(new, before, [total], total).items():
        if not name.startswith("past"):
            binding.bind_cpu_input(name, value)
    for name, value in zip(("key", "value"), shared, strict=True):
        binding.bind_ortvalue_input(f"past_{name}", value)
        binding.bind_ortvalue_output(f"present_{name}", value)
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[-1], apart[0])
    for found, expected, old in zip(shared, apart[1:], before, strict=True):
        np.testing.assert_array_equal(found.numpy()[:, :, :total], expected)
        assert np.isnan(found.numpy()[:, :, total:]).all() and np.isnan(old[:, :, total:]).all()


def test_a_conversation_is_taken_back():
    """Behind fewer tokens than the buffer holds, as after a rewind: those that are overwritten count no more."""
    heads = Heads()
    new, other, past = heads.new(1, 20), heads.new(1, 20), heads.past(1, 30)
    session = heads.session()
    _, *long = session.run(None, heads.feeds(other, past, [50], 50))
    again = session.run(None, heads.feeds(new, long, [50], 50))
    for found, expected in zip(again, session.run(None, heads.feeds(new, past, [50], 50)), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@pytest.mark.parametrize("tokens", [3, 40])
def test_what_is_no_number_reaches_those_who_see_it(odd, tokens):
    heads = Heads(heads=2, kv_heads=1)
    new = heads.new(1, tokens)
    wanted = steps(heads, new, [tokens])
    new[1][0, 2, 0, 5] = odd
    y = steps(heads, new, [tokens])
    assert np.isnan(y[0, 2:]).all()
    np.testing.assert_array_equal(y[0, :2], wanted[0, :2])


def test_no_token():
    heads = Heads()
    past = heads.past(1, 4)
    y, *cache = heads.session().run(None, heads.feeds(heads.new(1, 0), past, [4], 4))
    assert y.shape == (1, 0, 576)
    for found, expected in zip(cache, past, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("query", lambda x: x[0], "query must have 3 dimensions"),
        ("query", lambda x: x[..., 1:], "the query's width is not that of its heads"),
        ("past_value", lambda x: x[:, :, 1:], "must have the same shape"),
        ("past_key", lambda x: np.repeat(x, 2, 1), "must have the same shape"),
        ("lengths", lambda x: np.repeat(x, 2), "a length for each row"),
        ("lengths", lambda x: x + 1, "a row's length is not between"),
        ("lengths", lambda x: x - 9, "a row's length is not between"),
        ("total", lambda x: x * 0, "the total length is less than the tokens given"),
        ("cos", lambda x: x[:10], "cos and sin must be"),
    ],
)
def test_inputs_that_do_not_go_together_are_refused(name, change, said):
    heads = Heads()
    feeds = heads.feeds(heads.new(1, 4), heads.past(1, 6), [10], 10)
    feeds[name] = change(feeds[name])
    with pytest.raises(Exception, match=f"GroupQueryAttention: .*{said}"):
        heads.session().run(None, feeds)


def test_a_float32_cache_is_refused():
    heads = Heads()
    feeds = heads.feeds(heads.new(1, 1), heads.past(1, 6), [7], 7)
    feeds["past_key"] = feeds["past_key"].astype(np.float32)
    with pytest.raises(Exception, match=r"tensor.float.* expected: .tensor.float16"):
        heads.session().run(None, feeds)


def test_heads_that_share_no_whole_number_are_refused():
    with pytest.raises(Exception, match="num_heads must be a multiple of kv_num_heads"):
        Heads(heads=8).session()
