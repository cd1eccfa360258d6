"""The native operators: shipped only as pinned, and computing what their comments say.

The CPU's are run here; those for CUDA by tests/gpu, on a machine that has one.
"""

import hashlib
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import olivepress_operators
import one_operator
import onnxruntime
import pytest
from onnx import TensorProto, helper

from olivepress.core.artifact import LIBRARIES
from olivepress.core.errors import PressError
from olivepress.export.operator_library import SHA256, VERSION, copy_libraries

ROOT = Path(__file__).parents[1]
EPSILON = 1e-5
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers():
    """Each test gets the same numbers whichever ran before it: near the bounds of float32 others may fail."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


# ---- building and shipping ----


def test_the_operators_call_nothing_newer_than_the_interface_that_they_ask_for():
    """The vendored header is of a later one, and the compiler would not say."""
    native = ROOT / "operators/native"
    header = (native / "vendor/onnxruntime/onnxruntime_c_api.h").read_text()
    sources = "".join(path.read_text() for path in native.glob("*.[ch]"))
    asked = int(re.search(r"API_VERSION = (\d+)", sources)[1])
    called = set(re.findall(r"\bapi->(\w+)", sources))
    assert "KernelContext_ParallelFor" in called
    for name in called:
        entry = rf"ORT_API2_STATUS\({name},|ORT_API_CALL\* {name}\)|ORT_CLASS_RELEASE\({name.removeprefix('Release')}\)"
        comment = header[: re.search(entry, header).start()].rpartition("/**")[2]
        since = re.search(r"since Version 1\.(\d+)", comment)
        assert since is None or int(since[1]) <= asked, name


def test_sources_alone_have_no_library():
    """As with an installation that compiled nothing: the error says what to do."""
    source = ROOT / "operators/src/olivepress_operators/__init__.py"
    spec = importlib.util.spec_from_file_location("unbuilt", source)
    unbuilt = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unbuilt)
    with pytest.raises(
        FileNotFoundError, match=r"olivepress_lora\.so was not built: install the wheel .*make operators"
    ):
        unbuilt.library_path()


@pytest.mark.parametrize("cuda", [False, True])
def test_the_pinned_libraries_are_shipped_whichever_machine_this_is(tmp_path, cuda):
    copy_libraries(tmp_path, "CUDAExecutionProvider" if cuda else "CPUExecutionProvider")
    assert olivepress_operators.LIBRARIES == LIBRARIES
    shipped = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in LIBRARIES.values()}
    assert shipped == {LIBRARIES[processor]: digests[cuda] for processor, digests in SHA256.items()}


@pytest.mark.parametrize("cuda", [False, True])
def test_the_libraries_are_for_the_processors_that_they_are_named_for(cuda):
    """By the ELF header: 64 bits, and the machine's number. ARM's segments suit pages of 64 KB, the largest in use."""
    for processor, machine in (("x86_64", 62), ("aarch64", 183)):
        header = olivepress_operators.library_path(processor, cuda=cuda).read_bytes()
        assert header[:5] == b"\x7fELF\x02"
        assert int.from_bytes(header[18:20], "little") == machine
        segments, count = int.from_bytes(header[32:40], "little"), int.from_bytes(header[56:58], "little")
        for at in range(segments, segments + 56 * count, 56):
            if processor == "aarch64" and header[at] == 1:  # loaded
                assert int.from_bytes(header[at + 48 : at + 56], "little") == 1 << 16
    with pytest.raises(FileNotFoundError, match=r"no library for riscv64: x86_64 and aarch64 alone"):
        olivepress_operators.library_path("riscv64")


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("missing", rf"olivepress-operators {VERSION} is not installed .*: run `make operators`, or set lora_operator"),
        ("unbuilt", r"is not installed \(.*was not built.*\): run `make operators`"),
        ("old", rf"olivepress-operators 0\.9 is installed where {VERSION} is needed: run `make operators`"),
        (
            "changed",
            rf"olivepress_lora\.so: SHA-256 0f+, pinned for olivepress-operators {VERSION} is {SHA256['x86_64'][0]}: ",
        ),
    ],
)
def test_no_other_library_is_shipped(tmp_path, monkeypatch, state, found):
    if state == "missing":
        monkeypatch.setitem(sys.modules, "olivepress_operators", None)
    elif state == "unbuilt":
        monkeypatch.setattr(olivepress_operators, "__file__", str(tmp_path / "__init__.py"))
    elif state == "old":
        monkeypatch.setattr(olivepress_operators, "__version__", "0.9")
    else:
        monkeypatch.setattr(olivepress_operators, "library_sha256", lambda processor, *, cuda: "0" + 63 * "f")
    with pytest.raises(PressError, match=found):
        copy_libraries(tmp_path)
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize(("k", "n"), [(64, 40), (72, 64), (64, 0)])
def test_widths_that_the_loops_cannot_read_are_refused(k, n):
    values = feeds(1, k=max(k, 1), n=n, rank=8)
    shapes = {name: (*value.shape[:-1], None) for name, value in values.items()}
    with pytest.raises(Exception, match="K and N must be multiples of 16"):
        session("LoraAdd", shapes, 1, threads=1).run(None, values)


@pytest.mark.parametrize("width", [32, 128])
def test_an_adapter_of_another_width_than_the_projection_is_refused(width):
    values = feeds(1, k=64, n=64, rank=8)
    values["b"] = np.zeros((8, width), np.float16)
    shapes = {name: (*value.shape[:-1], None) for name, value in values.items()}
    with pytest.raises(Exception, match=r"A \[rank, K\] and B \[rank, N\] do not go together"):
        session("LoraAdd", shapes, 1, threads=1).run(None, values)
