"""Adapters in float16 for a graph of float32: the same graph, the adapter rounded."""

import numpy as np
import onnxruntime
import pytest
from test_lora_inputs import OUTPUTS, RANDOM, WIDTH, X, path, run  # noqa: F401 - path is a fixture

from olivepress.export.graph import load
from olivepress.export.passes.half_adapters import HalfAdapters
from olivepress.export.passes.lora_inputs import LoraInputs
from olivepress.export.projections import projections
from olivepress.export.surgery import apply

KEY = "model.layers.3.up_proj.lora_{}.weight"


def test_without_an_adapter_not_a_bit_changes(path):  # noqa: F811
    expected = run(path)
    apply(path, LoraInputs("all"), HalfAdapters())
    np.testing.assert_array_equal(run(path), expected)


@pytest.mark.parametrize("rank", [1, 5])
def test_an_adapter_is_what_its_float16_values_are_in_float32(path, rank):  # noqa: F811
    a, b = (RANDOM.standard_normal((rank, width)).astype(np.float16) for width in (WIDTH, OUTPUTS))
    apply(path, LoraInputs("all"))
    expected = run(path, **{KEY.format("A"): a.astype(np.float32), KEY.format("B"): b.astype(np.float32)})
    apply(path, HalfAdapters())
    assert {each.dtype for each in projections(load(path)).values()} == {"float16"}
    np.testing.assert_array_equal(run(path, **{KEY.format("A"): a, KEY.format("B"): b}), expected)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match="float16"):
        run(path, **{KEY.format("A"): a.astype(np.float32)})


def test_a_second_time_there_is_nothing_to_do(path):  # noqa: F811
    apply(path, LoraInputs("all"), HalfAdapters())
    before = path.read_bytes()
    apply(path, HalfAdapters())
    assert path.read_bytes() == before
