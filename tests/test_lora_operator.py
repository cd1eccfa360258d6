"""The native LoRA operators: built reproducibly, shipped only when current, and computing what their comments say.

The CPU's are run here; those for CUDA by tests/gpu, on a machine that has one.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import one_operator
import onnxruntime
import pytest
from onnx import TensorProto, helper

from olivepress import lora_operator
from olivepress.errors import PressError
from olivepress.lora_operator import BUILD, LIBRARY, built, ship
from olivepress.lora_operator_graph import KINDS, Operators

ROOT = Path(__file__).parents[1]
EPSILON = 1e-5
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def is_built():
    assert built(), "run make lora-operator"


# ---- building and shipping ----


def test_another_build_elsewhere_gives_the_same_bytes(tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{BUILD / 'tools'}{os.pathsep}{ROOT}"}
    code = "import sys, pathlib; from olivepress.build_lora_operator import build; build(pathlib.Path(sys.argv[1]))"
    again = tmp_path / "elsewhere" / LIBRARY
    subprocess.run([sys.executable, "-c", code, again], check=True, cwd=tmp_path, env=environment)
    assert again.read_bytes() == built().read_bytes()
    assert str(ROOT).encode() not in again.read_bytes()


def test_without_its_compilers_the_build_says_how(tmp_path):
    command = [sys.executable, "-m", "olivepress.build_lora_operator"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert (
        done.stderr.strip() == "Error: NVRTC is not installed. Run `make lora-operator`, which installs it for itself."
    )


@pytest.mark.parametrize("state", ["missing", "stale"])
def test_only_a_library_of_the_present_sources_is_shipped(tmp_path, monkeypatch, state):
    """A library from other sources is as good as none; one that the environment names is taken if it is current."""
    folder = tmp_path / "build"
    folder.mkdir()
    monkeypatch.setattr(lora_operator, "BUILD", folder)
    if state == "stale":
        (folder / LIBRARY).write_bytes(b"old")
        lora_operator.stamp(folder / LIBRARY).write_text("another digest")
    with pytest.raises(PressError, match=r"not built from the present native/\. Run `make lora-operator`"):
        ship(tmp_path)
    monkeypatch.setenv("OLIVEPRESS_LORA_OPERATOR", str(BUILD))
    ship(tmp_path)
    assert (tmp_path / LIBRARY).read_bytes() == (BUILD / LIBRARY).read_bytes()


# ---- what the CPU's operators compute ----


def session(op_type: str, shapes: dict[str, tuple], outputs: int, threads: int) -> onnxruntime.InferenceSession:
    """One operator of olivepress.cpu as a model; A and B are float16."""
    halves = ("a", "b")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT16 if name in halves else TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    names = ["y", "sum"][:outputs]
    attributes = {"epsilon": EPSILON} if op_type == "LoraAddNorm" else {}
    node = helper.make_node(op_type, list(shapes), names, domain="olivepress.cpu", **attributes)
    return one_operator.session(node, inputs, threads)


def feeds(tokens: int, k: int, n: int, rank: int) -> dict[str, np.ndarray]:
    """Random inputs of the shapes that a decoder has: batch 1."""
    return {
        "base": RNG.normal(size=(1, tokens, n)).astype(np.float32),
        "x": RNG.normal(size=(1, tokens, k)).astype(np.float32),
        "a": (RNG.normal(size=(rank, k)) / k**0.5).astype(np.float16),
        "b": (RNG.normal(size=(rank, n)) / max(rank, 1) ** 0.5).astype(np.float16),
    }


def projected(values: dict[str, np.ndarray]) -> np.ndarray:
    x, a, b = (values[name].astype(np.float64) for name in ("x", "a", "b"))
    return values["base"] + x @ a.T @ b


SIZES = [(tokens, rank) for tokens in (1, 2, 3, 4, 5, 9) for rank in (0, 1, 2, 7, 8, 33, 64)]


@pytest.mark.parametrize(("tokens", "rank"), SIZES)
def test_lora_add(tokens, rank):
    values = feeds(tokens, k=80, n=528, rank=rank)
    (y,) = session("LoraAdd", {k: v.shape for k, v in values.items()}, 1, threads=2).run(None, values)
    np.testing.assert_allclose(y, projected(values), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("tokens", "rank"), SIZES)
def test_lora_add_gate(tokens, rank):
    """SiLU over the whole range in which it is neither 0 nor its argument, and beyond."""
    values = feeds(tokens, k=48, n=608, rank=rank)
    values["base"][..., :304] *= 20
    (y,) = session("LoraAddGate", {k: v.shape for k, v in values.items()}, 1, threads=2).run(None, values)
    gate, up = np.split(projected(values), 2, axis=-1)
    assert gate.min() < -40 and gate.max() > 40
    np.testing.assert_allclose(y, gate / (1 + np.exp(-gate)) * up, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(("tokens", "rank"), SIZES)
def test_lora_add_norm(tokens, rank):
    values = feeds(tokens, k=64, n=544, rank=rank)
    values["skip"] = RNG.normal(size=(1, tokens, 544)).astype(np.float32)
    values["gamma"] = RNG.normal(size=544).astype(np.float32)
    y, total = session("LoraAddNorm", {k: v.shape for k, v in values.items()}, 2, threads=2).run(None, values)
    expected = projected(values) + values["skip"]
    np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-5)
    scale = np.sqrt((expected**2).mean(-1, keepdims=True) + EPSILON)
    np.testing.assert_allclose(y, expected / scale * values["gamma"], rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 37])
def test_the_number_of_threads_changes_no_bit(tokens):
    values = feeds(tokens, k=1024, n=3072, rank=64)  # enough for the operator to share it out
    shapes = {name: value.shape for name, value in values.items()}
    one, three = (session("LoraAdd", shapes, 1, threads).run(None, values)[0] for threads in (1, 3))
    np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("rank_of_b", [0, 7, 9])
def test_an_adapter_whose_matrices_do_not_go_together_is_refused(rank_of_b):
    values = feeds(1, k=64, n=64, rank=8)
    values["b"] = np.zeros((rank_of_b, 64), np.float16)
    shapes = {name: (*value.shape[:-1], None) for name, value in values.items()}
    with pytest.raises(Exception, match=r"the adapter's A \[rank, K\] and B \[rank, N\] do not go together"):
        session("LoraAdd", shapes | {"a": (None, 64), "b": (None, 64)}, 1, threads=1).run(None, values)


# ---- where they go in a graph ----


def projection(element: int, outputs: int) -> "helper.GraphProto":
    values = [helper.make_tensor_value_info(name, element, [1, 1, size]) for name, size in (("x", 64), ("y", outputs))]
    node = helper.make_node("MatMulNBits", ["x", "w"], ["y"], "/model/layers.0/attn/o_proj/MatMulNBits")
    return helper.make_graph([node], "one", [], [], value_info=values)


@pytest.mark.parametrize(
    ("provider", "element", "outputs", "found"),
    [
        (
            "CPUExecutionProvider",
            TensorProto.FLOAT16,
            64,
            "has 64 outputs of FLOAT16, the LoRA operator computes FLOAT",
        ),
        ("CPUExecutionProvider", TensorProto.FLOAT, 72, "has 72 outputs of FLOAT, .* and multiples of 16. Set"),
        ("CUDAExecutionProvider", TensorProto.FLOAT, 64, "has 64 outputs of FLOAT, the LoRA operator computes FLOAT16"),
        ("CUDAExecutionProvider", TensorProto.FLOAT16, 68, "has 68 outputs of FLOAT16, .* and multiples of 8. Set"),
    ],
)
def test_what_the_operators_cannot_compute_is_refused(provider, element, outputs, found):
    graph = projection(element, outputs)
    with pytest.raises(PressError, match=f"/model/layers.0/attn/o_proj/MatMulNBits: {found}"):
        Operators(graph, provider).around(graph.node[0], "a", "b")


@pytest.mark.parametrize("provider", KINDS)
def test_a_norm_is_taken_in_unless_another_node_reads_what_it_reads(provider):
    element = TensorProto.FLOAT16 if provider == "CUDAExecutionProvider" else TensorProto.FLOAT
    for reader in (False, True):
        graph = projection(element, 64)
        graph.node.append(
            helper.make_node("SkipSimplifiedLayerNormalization", ["skip", "y", "gamma"], ["z"], "norm", epsilon=EPSILON)
        )
        if reader:
            graph.node.append(helper.make_node("Identity", ["y"], ["other"], "reader"))
        operators = Operators(graph, provider)
        after = operators.around(graph.node[0], "a", "b")[-1]
        assert after.op_type == ("LoraAdd" if reader else "LoraAddNorm")
        assert list(after.output) == (["y"] if reader else ["z", f"{graph.node[0].name}/lora/sum"])
        assert operators.replaced == (set() if reader else {"norm"})
