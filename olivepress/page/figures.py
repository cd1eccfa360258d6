"""Figures as people read them: metrics by name, with the right number of places, and which way is better."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """How a metric is called and written; ``better``: 1 where more is better, -1 where less is."""

    label: str
    write: Callable[[float], str]
    better: int
    explained: str


def _places(value: float) -> str:
    return f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def _digits(value: float) -> str:
    """Three digits that count, never as a power of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{Decimal(f'{value:#.3g}'):f}"


METRICS = {
    "loss": Metric("Loss", _places, -1, "nats per token of the answer; less is better"),
    "perplexity": Metric("Perplexity", _digits, -1, "the exponential of the loss"),
    "rouge_l": Metric("ROUGE-L", _places, 1, "overlap of the answer with the reference, from 0 to 1"),
    "exact_match": Metric("Exact match", _percent, 1, "answers that are the reference, word for word"),
    "kl_divergence": Metric("KL divergence", _digits, -1, "of ONNX Runtime from PyTorch, nats a token"),
    "same_top_token": Metric("Same top token", _percent, 1, "ONNX Runtime and PyTorch would say the same next"),
}
LESS_IS_BETTER = (
    *("bytes", "bytes_by_part", "weight_bytes", "adapter_bytes", "bits_per_weight", "size_ratio"),
    *("held_out_loss", "preference_loss"),
)
MORE_IS_BETTER = ("reward_accuracy", "reward_margin")


def written(value: float, metric: str) -> str:
    """A value of one of METRICS."""
    return METRICS[metric].write(value)


def figure(value: Any) -> str:
    """A number for the eye; "–" for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def better(key: str, change: Any) -> str:
    """ "better", "worse" or "" for a ``change`` of the metric that a dotted ``key`` ends in, or is part of."""
    if not isinstance(change, int | float) or not change:
        return ""
    for part in key.split("."):
        way = METRICS[part].better if part in METRICS else (part in MORE_IS_BETTER) - (part in LESS_IS_BETTER)
        if way:
            return "better" if way * change > 0 else "worse"
    return ""


def in_parts(parts: Mapping[str, int]) -> str:
    """What an export is made of, as auto-opt counted it: each part's bytes, the largest first."""
    known = sorted(((count, part) for part, count in parts.items() if count), reverse=True)
    return ", ".join(f"{part} {size(count)}" for count, part in known)


def size(count: int) -> str:
    """Bytes for the eye, in powers of a thousand."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
