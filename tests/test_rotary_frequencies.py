"""Rotary tables that ONNX Runtime computes when it loads a model are PyTorch's, and cost no bytes."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from olivepress.export.passes.rotary_caches import ORIGINAL_LENGTH
from olivepress.export.passes.rotary_frequencies import RotaryFrequencies


def tables(rows: int, half: int, theta: float, factor: float = 1.0, stretch: float = 1.0) -> dict[str, np.ndarray]:
    """As transformers computes them, in float32."""
    frequencies = 1.0 / theta ** (torch.arange(0, 2 * half, 2).float() / (2 * half)) / stretch
    angles = torch.arange(rows).float()[:, None] * frequencies
    return {"cos_cache": (angles.cos() * factor).numpy(), "sin_cache": (angles.sin() * factor).numpy()}


def model(arrays: dict[str, np.ndarray], original: int | None = None) -> ir.Model:
    """A graph that gives the tables out."""
    values = [ir.val(name, const_value=ir.tensor(array, name=name)) for name, array in arrays.items()]
    outputs = [ir.val(value.name[:3], value.const_value.dtype, ["rows", "half"]) for value in values]
    nodes = [
        ir.node("Identity", [value], outputs=[out], name=out.name) for value, out in zip(values, outputs, strict=True)
    ]
    graph = ir.Graph([], outputs, nodes=nodes, initializers=values, opset_imports={"": 21}, name="g")
    if original:
        graph.meta[ORIGINAL_LENGTH] = original
    return ir.Model(graph, ir_version=10)


def computed(changed: ir.Model) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(ir.to_proto(changed).SerializeToString()).run(None, {})


@pytest.mark.parametrize(
    ("rows", "half", "theta", "factor"),
    [(8192, 32, 1e4, 1.0), (2048, 16, 1e6, 1.0), (512, 48, 5e5, 1.19), (300, 8, 1e4, 1.0), (131072, 4, 1e4, 1.19)],
)
def test_the_tables_are_computed(rows, half, theta, factor):
    expected = tables(rows, half, theta, factor)
    changed = model(expected)
    assert RotaryFrequencies()(changed).modified
    assert sum(value.const_value.nbytes for value in changed.graph.initializers.values()) < 100 + 4 * half
    for found, table in zip(computed(changed), expected.values(), strict=True):
        np.testing.assert_allclose(found, table, atol=1e-6)


def test_short_and_long_tables_one_after_the_other():
    """As RotaryCaches leaves them: each has its own frequencies."""
    pairs = tables(64, 8, 1e4, 1.19), tables(512, 8, 1e4, 1.19, stretch=8.0)
    expected = {name: np.concatenate([pair[name] for pair in pairs]) for name in pairs[0]}
    assert not RotaryFrequencies()(model(expected)).modified
    changed = model(expected, original=64)
    assert RotaryFrequencies()(changed).modified
    for found, table in zip(computed(changed), expected.values(), strict=True):
        np.testing.assert_allclose(found, table, atol=1e-6)


def test_other_tables_stay():
    one_off = tables(512, 8, 1e4)
    one_off["sin_cache"][400, 3] += 1e-4
    half = {name: array.astype(np.float16) for name, array in tables(512, 8, 1e4).items()}
    random = {name: np.random.default_rng(0).random((512, 8), np.float32) for name in half}
    for arrays in (one_off, half, random, tables(8, 8, 1e4)):
        assert not RotaryFrequencies()(model(arrays)).modified
