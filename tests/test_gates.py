"""Every bound that is missed is named with the figure; NaN never passes."""

import copy
import math

import pytest

from olivepress.gates import Bounds, misses

BOUNDS = Bounds(
    max_quantization_cost=0.1,
    min_finetuning_gain=0.5,
    max_export_cost=0.02,
    max_relative_error=0.05,
    min_same_top_token=0.9,
)
GOOD = {
    "loss": {
        "travel": {"base": 3.0, "quantized": 3.05, "quantized_onnx": 3.06, "finetuned": 2.0, "finetuned_onnx": 2.01},
        "general": {"base": 2.0, "quantized": 2.05, "quantized_onnx": 2.06},
    },
    "agreement": {
        "none": {"relative_error": 0.01, "same_top_token": 0.99},
        "travel": {"relative_error": 0.02, "same_top_token": 0.95},
    },
}


def with_figure(value: float, *path: str) -> dict:
    figures = copy.deepcopy(GOOD)
    place = figures
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return figures


def test_nothing_missed():
    assert misses(GOOD, BOUNDS) == []


def test_no_figures_at_all():
    assert misses({"loss": {}, "agreement": {}}, BOUNDS) == []


CASES = [
    (
        with_figure(2.94, "loss", "travel", "base"),
        "travel: loss(quantized) - loss(base) is 0.11, above max_quantization_cost 0.1",
    ),
    (
        with_figure(3.08, "loss", "travel", "quantized_onnx"),
        "travel: quantized: loss(ONNX Runtime) - loss(PyTorch) is 0.03, above max_export_cost 0.02",
    ),
    (
        with_figure(2.04, "loss", "travel", "finetuned_onnx"),
        "travel: finetuned: loss(ONNX Runtime) - loss(PyTorch) is 0.04, above max_export_cost 0.02",
    ),
    (
        with_figure(2.3, "loss", "general", "quantized_onnx"),
        "general: quantized: loss(ONNX Runtime) - loss(PyTorch) is 0.25, above max_export_cost 0.02",
    ),
    (
        with_figure(0.0625, "agreement", "none", "relative_error"),
        "no adapter: relative error of the logits is 0.0625, above max_relative_error 0.05",
    ),
    (
        with_figure(0.875, "agreement", "travel", "same_top_token"),
        "adapter travel: share of same top tokens is 0.875, below min_same_top_token 0.9",
    ),
]


@pytest.mark.parametrize(("figures", "expected"), CASES)
def test_one_miss_names_figure_and_bound(figures, expected):
    assert misses(figures, BOUNDS) == [expected]


def test_too_little_gain():
    figures = with_figure(2.75, "loss", "travel", "finetuned")
    figures["loss"]["travel"]["finetuned_onnx"] = 2.75
    expected = "travel: loss(quantized) - loss(finetuned) is 0.3, below min_finetuning_gain 0.5"
    assert misses(figures, BOUNDS) == [expected]


def test_several_misses_are_all_named():
    figures = with_figure(1.0, "loss", "general", "base")
    figures["agreement"]["none"] = {"relative_error": 1.0, "same_top_token": 0.5}
    found = misses(figures, BOUNDS)
    assert [text.partition(" is ")[0] for text in found] == [
        "general: loss(quantized) - loss(base)",
        "no adapter: relative error of the logits",
        "no adapter: share of same top tokens",
    ]


def test_a_figure_exactly_at_its_bound_passes():
    figures = with_figure(0.05, "agreement", "none", "relative_error")
    figures["agreement"]["none"]["same_top_token"] = 0.9
    assert misses(figures, BOUNDS) == []


@pytest.mark.parametrize(
    ("path", "bound"),
    [
        (("loss", "general", "base"), "max_quantization_cost"),
        (("loss", "travel", "finetuned"), "min_finetuning_gain"),
        (("loss", "general", "quantized_onnx"), "max_export_cost"),
        (("agreement", "none", "relative_error"), "max_relative_error"),
        (("agreement", "travel", "same_top_token"), "min_same_top_token"),
    ],
)
def test_nan_is_a_miss(path, bound):
    found = misses(with_figure(math.nan, *path), BOUNDS)
    assert any(" is nan, " in text and f" {bound} " in text for text in found)
