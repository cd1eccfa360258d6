"""What the pieces of a LoRA projection cost on the device, each repeated in one graph.

Microseconds per node at batch 1 and Phi-3.5-mini's shapes, in a CUDA graph, every repetition with its own weights.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from benchmarks.decode_cuda import CPU, CUDA, find_libraries, machine, provider_option
from olivepress.core.outputs import write_json
from olivepress.export.operator_library import check_library

SHAPES = {"qkv": (3072, 9216), "o": (3072, 3072), "gate": (3072, 8192), "gate_up": (3072, 16384), "down": (8192, 3072)}
GROUP, REPEATS, RUNS = 128, 32, 30
OURS = "MatMulNBits of ours"
PARTS = 8  # xAs cuts the sum over K into so many products, which are then to be added


@click.command()
@provider_option
@click.option("--results", type=click.Path(path_type=Path), default=Path("results/bench/lora-pieces.json"))
@click.option("--piece", "wanted", multiple=True, help="Measure these only, as MatMulNBits; default: all.")
def main(provider: str, results: Path, wanted: tuple[str, ...]) -> None:
    """Print and write a table of microseconds."""
    find_libraries(provider)
    record = {"machine": machine(provider), "microseconds": {}}
    for shape, (inputs, outputs) in SHAPES.items():
        pieces = [("MatMulNBits", 0), (OURS, 0), ("Add", 0), ("Split", 0)]
        kinds = ("xA", "xAt", "Axt", "xAs", "sum", "tB", "tBt", "ttB", "Gemm")
        pieces += [(kind, rank) for rank in (0, 8, 64) for kind in kinds]
        for kind, rank in pieces:
            if wanted and kind not in wanted:
                continue
            name = f"{shape} {kind} {rank}"
            try:
                cost = round(measure(provider, kind, inputs, outputs, rank), 2)
            except Exception as error:  # an operator that refuses a shape is a result too
                cost = str(error)[:200]
            record["microseconds"][name] = cost
            click.echo(f"{name}: {cost}")
            write_json(results, record)


def measure(provider: str, kind: str, inputs: int, outputs: int, rank: int) -> float:
    """Median microseconds per node."""
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    dtype = np.float16 if provider == CUDA else np.float32
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.register_custom_ops_library(str(check_library(provider)))
    providers = [(CUDA, {"enable_cuda_graph": "1"})] if provider == CUDA else [CPU]
    model, feeds, shape = graph(kind, inputs, outputs, rank, dtype)
    session = ort.InferenceSession(model, options, providers=providers)
    device = "cuda" if provider == CUDA else "cpu"
    binding = session.io_binding()
    kept = []
    for value in session.get_inputs():
        kept.append(ort.OrtValue.ortvalue_from_numpy(feeds[value.name], device, 0))
        binding.bind_ortvalue_input(value.name, kept[-1])
    for value in session.get_outputs():
        kept.append(ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, device, 0))
        binding.bind_ortvalue_output(value.name, kept[-1])
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run_with_iobinding(binding)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[5:]) / REPEATS * 1e6


def graph(
    kind: str, inputs: int, outputs: int, rank: int, dtype: type
) -> tuple[bytes, dict[str, np.ndarray], list[int]]:
    """REPEATS nodes side by side: the model, what to feed, the shape of each output."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    feeds = {
        "x": rng.standard_normal((1, 1, inputs)).astype(dtype),
        "y": rng.standard_normal((1, 1, outputs)).astype(dtype),
        "t": rng.standard_normal((1, 1, rank)).astype(dtype),
        "y2": rng.standard_normal((1, outputs)).astype(dtype),
        "t2": rng.standard_normal((1, rank)).astype(dtype),
        "tt": rng.standard_normal((1, rank, 1)).astype(dtype),
        "xs": rng.standard_normal((1, PARTS, inputs // PARTS)).astype(dtype),
        "ts": rng.standard_normal((PARTS, 1, rank)).astype(dtype),
    }
    weights, nodes, values = [], [], []

    def weight(number: int, *size: int) -> str:
        weights.append(numpy_helper.from_array((rng.standard_normal(size) / 64).astype(dtype), f"w{number}"))
        return f"w{number}"

    def raw(name: str, *size: int) -> str:
        data = np.frombuffer(rng.bytes(int(np.prod(size))), np.uint8).reshape(size)
        weights.append(numpy_helper.from_array(data, name))
        return name

    def quantized(n: int, outs: list[str], domain: str) -> tuple:
        groups = inputs // GROUP
        parts = ["x", raw(f"q{n}", outputs, groups, GROUP // 2), weight(n, outputs * groups)]
        parts.append(raw(f"z{n}", outputs * (groups // 2)))
        settings = {"K": inputs, "N": outputs, "bits": 4, "block_size": GROUP, "domain": domain}
        return helper.make_node("MatMulNBits", parts, outs, **settings)

    fused = {"domain": "com.microsoft", "transB": 1}
    make: dict[str, tuple[Callable[[int, str], object], list[int]]] = {
        "MatMulNBits": (lambda n, out: quantized(n, [out], "com.microsoft"), [1, 1, outputs]),
        OURS: (
            lambda n, out: quantized(n, [out, f"{out}w"], "olivepress.cuda"),
            [1, 1, outputs],
        ),
        "Add": (lambda n, out: helper.make_node("Add", ["y", "y"], [out]), [1, 1, outputs]),
        "Split": (
            lambda n, out: helper.make_node("Split", ["y"], [out, f"{out}b"], axis=-1, num_outputs=2),
            [1, 1, outputs // 2],
        ),
        "xA": (lambda n, out: helper.make_node("MatMul", ["x", weight(n, inputs, rank)], [out]), [1, 1, rank]),
        "xAt": (
            lambda n, out: helper.make_node("FusedMatMul", ["x", weight(n, rank, inputs)], [out], **fused),
            [1, 1, rank],
        ),
        "Axt": (
            lambda n, out: helper.make_node("FusedMatMul", [weight(n, rank, inputs), "x"], [out], **fused),
            [1, rank, 1],
        ),
        "xAs": (
            lambda n, out: helper.make_node(
                "FusedMatMul", ["xs", weight(n, PARTS, rank, inputs // PARTS)], [out], transBatchA=1, **fused
            ),
            [PARTS, 1, rank],
        ),
        "sum": (
            lambda n, out: helper.make_node("ReduceSum", ["ts", "first"], [out], keepdims=0),
            [1, rank],
        ),
        "ttB": (
            lambda n, out: helper.make_node(
                "FusedMatMul", ["tt", weight(n, rank, outputs)], [out], domain="com.microsoft", transA=1
            ),
            [1, 1, outputs],
        ),
        "tB": (lambda n, out: helper.make_node("MatMul", ["t", weight(n, rank, outputs)], [out]), [1, 1, outputs]),
        "tBt": (
            lambda n, out: helper.make_node("FusedMatMul", ["t", weight(n, outputs, rank)], [out], **fused),
            [1, 1, outputs],
        ),
        "Gemm": (
            lambda n, out: helper.make_node("Gemm", ["t2", weight(n, rank, outputs), "y2"], [out]),
            [1, outputs],
        ),
    }
    build, shape = make[kind]
    shown = 1 if kind == OURS else None  # its second output is empty
    for number in range(REPEATS):
        nodes.append(build(number, f"out{number}"))
        values += [helper.make_tensor_value_info(name, element, shape) for name in nodes[-1].output[:shown]]
    if kind == "sum":
        weights.append(numpy_helper.from_array(np.array([0]), "first"))
    used = {name for node in nodes for name in node.input}
    given = [helper.make_tensor_value_info(n, element, list(v.shape)) for n, v in feeds.items() if n in used]
    opsets = [
        helper.make_opsetid("", 21),
        *(helper.make_opsetid(domain, 1) for domain in ("com.microsoft", "olivepress.cuda")),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "pieces", given, values, weights), opset_imports=opsets, ir_version=10
    )
    return model.SerializeToString(), feeds, shape


if __name__ == "__main__":
    main()
