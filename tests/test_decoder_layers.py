"""A decoder layer in one operator: which nodes it takes the place of, and that it computes what they do, to the bit."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import one_operator
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from olivepress.export.operator_library import check_library
from olivepress.export.passes.decoder_layers import DOMAIN, LAYER, DecoderLayers, expand

NINE = {"MatMulNBits": 4, "LoraAdd": 1, "GroupQueryAttention": 1, "LoraAddNorm": 2, "LoraAddGate": 1}
POSITIONS = 512
EPSILON = (1e-5, 1e-6)
PARTS = ("qkv", "o", "gate_up", "down")


@dataclass(frozen=True)
class Shape:
    """A layer's sizes, and how its weights are stored."""

    width: int = 64
    mlp: int = 192
    heads: int = 4
    kv_heads: int = 2
    size: int = 32
    rotated: int = 32  # of a head; 0: none, and no tables
    bits: tuple[int, ...] = (4, 4, 4, 4)
    block: int = 32
    half: bool = True  # scales in float16
    window: int = -1
    layers: int = 2
    blocks: bool = False  # LoraAdd knows how wide q, k and v are

    def products(self) -> dict[str, tuple[int, int]]:
        """Each product's inputs K and outputs N."""
        heads = self.heads * self.size
        return {
            "qkv": (self.width, heads + 2 * self.kv_heads * self.size),
            "o": (heads, self.width),
            "gate_up": (self.width, 2 * self.mlp),
            "down": (self.mlp, self.width),
        }

    def blocks_of(self, part: str) -> list[int]:
        """How wide what the product packs is."""
        if part == "qkv":
            return [count * self.size for count in (self.heads, self.kv_heads, self.kv_heads)]
        return [self.mlp] * 2 if part == "gate_up" else [self.products()[part][1]]

    def model(self) -> onnx.ModelProto:
        """``layers`` layers by nine operators each, with random weights."""
        random, nodes, weights = np.random.default_rng(0), [], {}
        tables = ["cos", "sin"] if self.rotated else []
        inputs = {"x": TensorProto.FLOAT, "skip": TensorProto.FLOAT, "lengths": TensorProto.INT32}
        inputs |= {"total": TensorProto.INT32, **dict.fromkeys(tables, TensorProto.FLOAT)}
        outputs = {}

        def add(op_type, name, inputs, outputs, **attributes):
            nodes.append(helper.make_node(op_type, inputs, outputs, name, domain=DOMAIN, **attributes))
            return outputs[0]

        def product(layer, part, x, tail, more, results, **attributes):
            (k, n), name, bits = self.products()[part], f"{layer}.{part}", self.bits[PARTS.index(part)]
            blocks = k // self.block
            scales = random.uniform(0.5, 2, (n, blocks)) / 2**bits / k**0.5
            weights[f"{name}.w"] = one_operator.packed(random.integers(0, 1 << bits, (n, k), np.uint8), bits)
            weights[f"{name}.w"] = weights[f"{name}.w"].reshape(n, blocks, -1)
            weights[f"{name}.s"] = scales.astype(np.float16 if self.half else np.float32)
            weights[f"{name}.z"] = one_operator.packed(random.integers(0, 1 << bits, (n, blocks), np.uint8), bits)
            held = [f"{name}.{kind}" for kind in "wsz"]
            base = add("MatMulNBits", f"{name}/MatMulNBits", [x, *held], [f"{name}.y"], K=k, N=n, bits=bits,
                       block_size=self.block, accuracy_level=4)  # fmt: skip
            inputs.update({f"{name}.{side}": TensorProto.FLOAT16 for side in "AB"})
            return add(tail, f"{name}/{tail}", [base, x, f"{name}.A", f"{name}.B", *more], results, **attributes)

        x, skip = "x", "skip"
        for layer in range(self.layers):
            for norm in range(2):
                weights[f"{layer}.norm{norm}"] = random.uniform(0.5, 1.5, self.width).astype(np.float32)
            cache = [f"{layer}.{kind}" for kind in ("keys", "values")]
            inputs |= {f"past.{name}": TensorProto.FLOAT16 for name in cache}
            outputs |= {f"present.{name}": TensorProto.FLOAT16 for name in cache}
            widths = {"widths": self.blocks_of("qkv")} if self.blocks else {}
            qkv = product(layer, "qkv", x, "LoraAdd", [], [f"{layer}.qkv"], **widths)
            attended = add(
                "GroupQueryAttention",
                f"/layers.{layer}/GroupQueryAttention",
                [qkv, "", "", *(f"past.{name}" for name in cache), "lengths", "total", *tables],
                [f"{layer}.attended", *(f"present.{name}" for name in cache)],
                num_heads=self.heads,
                kv_num_heads=self.kv_heads,
                scale=0.0,
                local_window_size=self.window,
                do_rotary=int(self.rotated > 0),
            )
            results = [f"{layer}.normed", f"{layer}.first"]
            x = product(layer, "o", attended, "LoraAddNorm", [skip, f"{layer}.norm0"], results, epsilon=EPSILON[0])
            x = product(layer, "gate_up", x, "LoraAddGate", [], [f"{layer}.gated"])
            results, more = [f"{layer}.y", f"{layer}.sum"], [f"{layer}.first", f"{layer}.norm1"]
            x = product(layer, "down", x, "LoraAddNorm", more, results, epsilon=EPSILON[1])
            skip = f"{layer}.sum"
        outputs |= {x: TensorProto.FLOAT, skip: TensorProto.FLOAT}

        def values(types):
            return [helper.make_tensor_value_info(name, dtype, None) for name, dtype in types.items()]

        held = [numpy_helper.from_array(value, name) for name, value in weights.items()]
        graph = helper.make_graph(nodes, "layers", values(inputs), values(outputs), held)
        domains = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=domains, ir_version=10)

    def feeds(self, tokens: int, past: list[int], rank: int, seed: int = 0) -> dict[str, np.ndarray]:
        """A step of ``tokens`` behind rows of ``past`` tokens, with random adapters of ``rank``."""
        random, rows, longest = np.random.default_rng(seed), len(past), max(past)

        def new(*shape, dtype=np.float32, scale=1.0):
            return (random.normal(size=shape) * scale).astype(dtype)

        found = {"x": new(rows, tokens, self.width), "skip": new(rows, tokens, self.width)}
        found["lengths"] = np.array(past, np.int32) + tokens - 1
        found["total"] = np.array([longest + tokens], np.int32)
        if self.rotated:
            angles = np.arange(POSITIONS)[:, None] * 1e4 ** -(np.arange(0, self.rotated, 2) / self.rotated)
            found |= {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
        for layer in range(self.layers):
            for kind in ("keys", "values"):
                found[f"past.{layer}.{kind}"] = new(rows, self.kv_heads, longest, self.size, dtype=np.float16)
            for part, (k, n) in self.products().items():
                found[f"{layer}.{part}.A"] = new(rank, k, dtype=np.float16, scale=k**-0.5)
                found[f"{layer}.{part}.B"] = new(rank, n, dtype=np.float16, scale=0.3)
        return found


def session(model: onnx.ModelProto, threads: int = 2) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(check_library("CPUExecutionProvider")))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def fused(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph after the pass."""
    graph = ir.from_proto(model)
    DecoderLayers()(graph)
    return ir.to_proto(graph)


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph.node))


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and np.isfinite(one.astype(np.float32)).all()
        np.testing.assert_array_equal(one, other)


SHAPES = [
    Shape(),
    Shape(half=False, window=9),
    Shape(width=576, mlp=1536, heads=9, kv_heads=3, size=64, rotated=64, block=64, layers=1),  # SmolLM2's
    Shape(width=256, mlp=128, heads=6, kv_heads=6, size=16, rotated=0, bits=(8, 4, 4, 8)),
    Shape(width=128, mlp=640, heads=1, kv_heads=1, size=256, rotated=128, bits=(8, 8, 8, 8), block=128),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rank", [0, 3, 16])
def test_the_same_bits_as_nine_operators(shape, rank):
    """One token and few, a prompt, rows of other lengths."""
    nine = shape.model()
    one = fused(nine)
    assert kinds(nine) == {name: count * shape.layers for name, count in NINE.items()}
    assert kinds(one) == {LAYER: shape.layers}
    theirs, ours = session(nine), session(one)
    for tokens, past in ((1, [0]), (1, [40]), (1, [200]), (3, [7]), (5, [0]), (70, [0]), (33, [150]), (1, [9, 31, 2])):
        feeds = shape.feeds(tokens, past, rank)
        same(ours.run(None, feeds), theirs.run(None, feeds))


def without_zeros(shape: Shape, feeds: dict[str, np.ndarray], rank: int) -> tuple[dict, dict]:
    """``feeds`` with an adapter of ``rank`` for each block of every product: B without zeros, and with them."""
    random = np.random.default_rng(1)
    short, whole = dict(feeds), dict(feeds)
    for name in feeds:
        if name.endswith(".A"):
            part = name.split(".")[1]
            widths = shape.blocks_of(part)
            a = random.normal(size=(len(widths) * rank, feeds[name].shape[1])).astype(np.float16)
            b = random.normal(size=(rank, sum(widths))).astype(np.float16)
            short[name] = whole[name] = a
            short[f"{name[:-1]}B"] = b
            whole[f"{name[:-1]}B"] = one_operator.with_zeros(b, widths)
    return short, whole


@pytest.mark.parametrize("shape", [replace(shape, blocks=True) for shape in SHAPES], ids=str)
@pytest.mark.parametrize("rank", [1, 4, 7, 64])
def test_an_adapter_without_its_zeros_gives_the_same_bits(shape, rank):
    nine = shape.model()
    one = fused(nine)
    for session_ in (session(nine), session(one)):
        for tokens, past in ((1, [40]), (3, [7]), (9, [0])):
            short, whole = without_zeros(shape, shape.feeds(tokens, past, 1), rank)
            same(session_.run(None, short), session_.run(None, whole))
    expand(one)
    assert [helper.get_attribute_value(a) for node in one.graph.node for a in node.attribute if a.name == "widths"] == [
        shape.blocks_of("qkv")
    ] * shape.layers


def test_what_is_no_block_of_an_adapter_is_refused():
    shape = Shape(layers=1, blocks=True)
    short, _ = without_zeros(shape, shape.feeds(1, [5], 1), 4)
    for model in (shape.model(), fused(shape.model())):
        for part in PARTS:
            wrong = short | {f"0.{part}.A": short[f"0.{part}.A"][:-1]}
            with pytest.raises(Exception, match=r"A \[rank, K\] and B \[rank, N\] do not go together"):
                session(model).run(None, wrong)


@pytest.mark.parametrize("widths", [[64, 64], [128, 64, 48], [128, 64, 64, 16], [128, 64, 72], [128, -64, 192]])
def test_widths_that_are_not_those_of_its_blocks_are_refused(widths):
    shape = Shape(layers=1, blocks=True)
    short, _ = without_zeros(shape, shape.feeds(1, [5], 1), 4)
    for model in (shape.model(), fused(shape.model())):
        node = next(n for n in model.graph.node if any(a.name == "widths" for a in n.attribute))
        next(a for a in node.attribute if a.name == "widths").ints[:] = widths
        with pytest.raises(Exception, match=r"widths must be|do not go together"):
            session(model).run(None, short)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_threads_change_no_bit(shape):
    one = fused(shape.model())
    for tokens, past in ((1, [130]), (40, [0])):
        feeds = shape.feeds(tokens, past, 8)
        expected = session(one, 1).run(None, feeds)
        for threads in (2, 3, 5):
            again = session(one, threads)
            for _ in range(3):
                same(again.run(None, feeds), expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_layer_expands_to_the_nodes_that_it_stands_for(shape):
    nine = shape.model()
    model = fused(nine)
    expand(model)
    assert kinds(model) == kinds(nine)
    feeds = shape.feeds(2, [11], 4)
    same(session(model).run(None, feeds), session(nine).run(None, feeds))


def test_a_cache_in_one_buffer():
    """As ONNX Runtime GenAI gives it: past and present are the same memory, longer than what is in it."""
    shape = Shape(layers=1)
    feeds = shape.feeds(1, [20], 4)
    names = [name for name in feeds if name.startswith("past.")]
    nine = shape.model()
    expected = dict(zip([o.name for o in nine.graph.output], session(nine).run(None, feeds), strict=True))
    ours = session(fused(nine))
    binding = ours.io_binding()
    buffers = {}
    for name, value in feeds.items():
        given = value
        if name in names:
            given = np.zeros((*value.shape[:2], 64, value.shape[3]), np.float16)
            given[:, :, :20] = value
        buffers[name] = onnxruntime.OrtValue.ortvalue_from_numpy(given)
        binding.bind_ortvalue_input(name, buffers[name])
    for name in expected:
        if name.startswith("present."):
            binding.bind_ortvalue_output(name, buffers[name.replace("present", "past")])
        else:
            binding.bind_output(name)
    ours.run_with_iobinding(binding)
    for name, found in zip(expected, binding.get_outputs(), strict=True):
        one = found.numpy()
        np.testing.assert_array_equal(one[:, :, :21] if name.startswith("present.") else one, expected[name])


def changed(change) -> onnx.ModelProto:
    """A model of one layer after ``change`` of its nodes by name and its graph."""
    model = Shape(layers=1).model()
    change({node.name: node for node in model.graph.node}, model.graph)
    return model


def read_by_another(value):
    def change(nodes, graph):
        graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))

    return change


@pytest.mark.parametrize("value", ["0.qkv.y", "0.qkv", "0.attended", "0.normed", "0.first", "0.gated", "0.down.y"])
def test_a_layer_of_which_others_read_a_value_stays(value):
    assert kinds(fused(changed(read_by_another(value)))) == NINE


def other_domain(name):
    def change(nodes, graph):
        nodes[name].domain = "com.microsoft"

    return change


@pytest.mark.parametrize("name", ["0.qkv/MatMulNBits", "/layers.0/GroupQueryAttention", "0.down/MatMulNBits"])
def test_a_layer_with_an_operator_of_onnx_runtimes_stays(name):
    model = changed(other_domain(name))
    assert kinds(fused(model)) == NINE


def test_a_layer_with_another_residual_stays():
    def change(nodes, graph):
        nodes["0.down/LoraAddNorm"].input[4] = "skip"

    assert kinds(fused(changed(change))) == NINE


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["0.o.A"], r"A \[rank, K\] and B \[rank, N\] do not go together"),
        (["0.gate_up.A", "0.gate_up.B"], r"A \[rank, K\] and B \[rank, N\] do not go together"),
        (["skip"], "x, skip and the norms must have the same width"),
        (["past.0.keys", "past.0.values"], "the past must be"),
    ],
)
def test_inputs_that_do_not_go_together_are_refused(names, said):
    shape = Shape(layers=1)
    feeds = shape.feeds(1, [5], 4)
    for name in names:
        feeds[name] = np.repeat(feeds[name], 2, axis=1)
    with pytest.raises(Exception, match=said):
        session(fused(shape.model())).run(None, feeds)


def test_products_that_do_not_go_together_are_refused():
    shape = Shape(layers=1)
    model = fused(shape.model())
    (node,) = model.graph.node
    heads = next(attribute for attribute in node.attribute if attribute.name == "num_heads")
    heads.i = 2
    with pytest.raises(Exception, match="the query's width is not that of its heads"):
        session(model).run(None, shape.feeds(1, [5], 4))


@pytest.mark.parametrize("name", ["K", "N", "bits", "block_size", "epsilon"])
def test_too_few_settings_are_refused(name):
    model = fused(Shape(layers=1).model())
    (node,) = model.graph.node
    found = next(attribute for attribute in node.attribute if attribute.name == name)
    del (found.floats if name == "epsilon" else found.ints)[-1]
    with pytest.raises(Exception, match="must be four each, epsilon two"):
        session(model)


def test_more_threads_than_cores_end():
    """Threads that are not running keep nobody waiting."""
    shape = replace(SHAPES[2], layers=3)
    one = session(fused(shape.model()), 16)
    feeds = shape.feeds(1, [30], 8)
    first = one.run(None, feeds)
    for _ in range(50):
        same(one.run(None, feeds), first)
