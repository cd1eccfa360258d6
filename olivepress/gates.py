"""Bounds on evaluate's figures, from params.yaml."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bounds:
    """Losses in nats per token; see stages/evaluate.py for each."""

    max_quantization_cost: float
    min_finetuning_gain: float
    max_export_cost: float
    max_relative_error: float
    min_same_top_token: float


def misses(figures: dict[str, Any], bounds: Bounds) -> list[str]:
    """One text for every figure that misses its bound, naming the figure, the bound and both values."""
    found: list[str] = []

    def at_most(what: str, value: float, bound: str) -> None:
        limit = getattr(bounds, bound)
        # "not <=" also catches NaN
        if not value <= limit:
            found.append(f"{what} is {value:.4g}, above {bound} {limit:g}")

    def at_least(what: str, value: float, bound: str) -> None:
        limit = getattr(bounds, bound)
        if not value >= limit:
            found.append(f"{what} is {value:.4g}, below {bound} {limit:g}")

    for name, loss in figures["loss"].items():
        at_most(f"{name}: loss(quantized) - loss(base)", loss["quantized"] - loss["base"], "max_quantization_cost")
        for step in ("quantized", "finetuned"):
            if step in loss:
                gap = loss[f"{step}_onnx"] - loss[step]
                at_most(f"{name}: {step}: loss(ONNX Runtime) - loss(PyTorch)", gap, "max_export_cost")
        if "finetuned" in loss:
            gain = loss["quantized"] - loss["finetuned"]
            at_least(f"{name}: loss(quantized) - loss(finetuned)", gain, "min_finetuning_gain")
    for name, agreement in figures["agreement"].items():
        who = "no adapter" if name == "none" else f"adapter {name}"
        at_most(f"{who}: relative error of the logits", agreement["relative_error"], "max_relative_error")
        at_least(f"{who}: share of same top tokens", agreement["same_top_token"], "min_same_top_token")
    return found
