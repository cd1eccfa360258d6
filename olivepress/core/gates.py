"""What a release has to hold: figures of evaluation, with their intervals, against the thresholds of params.yaml.

A threshold is missed only where the whole 95 % interval is on its wrong side: noise fails no release. The more rows are
measured, the narrower the intervals, and the less gets past them.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olivepress.core.outputs import as_written, read_json

GENERAL = "general"  # what the set that no adapter was trained for is called


@dataclass(frozen=True)
class Thresholds:
    """The section ``thresholds`` of params.yaml. Losses and divergences are in nats per answer token."""

    max_quantization_loss_increase: float
    min_finetuning_gain: float
    max_forgetting: float
    max_export_loss_increase: float
    max_kl_divergence: float
    min_same_top_token: float
    max_bytes: int
    max_loss_increase_since_release: float
    max_size_ratio_to_release: float
    min_relative_speed: float


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval, which is the value itself for what is no estimate (a size)."""

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> "Figure":
        return cls(value, value, value)

    def minus(self, other: "Figure") -> "Figure":
        """The difference of two figures as if they were of different rows: their errors add as squares.

        Of the same rows their true difference has a narrower interval.
        """
        value = self.value - other.value
        below = math.hypot(self.value - self.low, other.high - other.value)
        above = math.hypot(self.high - self.value, other.value - other.low)
        return Figure(value, value - below, value + above)

    def negative(self) -> "Figure":
        return Figure(-self.value, -self.high, -self.low)

    def __str__(self) -> str:
        if self.low == self.high == self.value:
            return f"{self.value:,}" if isinstance(self.value, int) else f"{self.value:.4g}"
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True)
class Measured:
    """What is known of one target.

    ``figures``: adapter or GENERAL -> (set, metric, step, minus) -> figure, as evaluate wrote them. ``bytes``: of the
    released model and adapters. ``speed``: adapter -> tokens a second with it, relative to without, where this machine
    has measured it. ``release``: the last release's losses as ``shipped_losses`` names them, and its bytes.
    """

    figures: dict[str, dict[tuple[str, str, str, str | None], Figure]]
    bytes: int | None = None
    speed: dict[str, Figure] = field(default_factory=dict)
    release: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """One figure held to one threshold.

    ``metric``: what was measured, on which data. ``threshold``: its name in Thresholds; ``limit``: its number.
    """

    metric: str
    figure: Figure
    threshold: str
    limit: float

    @property
    def value(self) -> float:
        return self.figure.value

    @property
    def at_most(self) -> bool:
        """Whether the value may not be above the limit; else it may not be below."""
        return self.threshold.startswith("max_")

    @property
    def ok(self) -> bool:
        """Whether the threshold holds, in favour of the release as far as the interval goes. NaN holds none."""
        return self.figure.low <= self.limit if self.at_most else self.figure.high >= self.limit

    @property
    def bound(self) -> str:
        """The threshold and its limit."""
        return f"{self.threshold} {self.limit:,}" if isinstance(self.limit, int) else f"{self.threshold} {self.limit:g}"

    @property
    def miss(self) -> str:
        """What is said of a threshold that is missed."""
        return f"{self.metric} is {self.figure}, {'above' if self.at_most else 'below'} {self.bound}"


def verdicts(measured: Measured, thresholds: Thresholds) -> list[Verdict]:
    """Every figure that has a threshold, held to it."""
    return [
        Verdict(metric, figure, threshold, getattr(thresholds, threshold))
        for metric, figure, threshold in _held(measured)
    ]


def _held(measured: Measured) -> Iterator[tuple[str, Figure, str]]:
    """(what it is, figure, threshold) of everything that has a threshold."""
    for data, figures in measured.figures.items():
        for (of, metric, step, minus), figure in figures.items():
            # the general set without an adapter is evaluate-base's; with one, only what the adapter changes is new
            if of == GENERAL != data and not step.startswith("finetuned"):
                continue
            where = data if of != GENERAL or data == GENERAL else f"{GENERAL} with {data}"
            difference = f"{where}: loss({step}) - loss({minus})"
            if metric == "kl_divergence":
                yield f"{where}: KL divergence of {_exported(step)}", figure, "max_kl_divergence"
            elif metric == "same_top_token":
                yield f"{where}: same top token, {_exported(step)}", figure, "min_same_top_token"
            elif metric != "loss":
                continue
            elif (step, minus) == ("quantized", "base"):
                yield difference, figure, "max_quantization_loss_increase"
            elif (step, minus) == ("finetuned", "quantized") and of == GENERAL:
                yield difference, figure, "max_forgetting"
            elif (step, minus) == ("finetuned", "quantized"):
                yield f"{where}: loss(quantized) - loss(finetuned)", figure.negative(), "min_finetuning_gain"
            elif minus and step in (f"{minus}_onnx", f"{minus}_operators"):
                yield difference, figure, "max_export_loss_increase"
    if measured.bytes is not None:
        yield "bytes of model and adapters", Figure.exact(measured.bytes), "max_bytes"
    yield from _since_release(measured)
    for name, figure in measured.speed.items():
        yield f"{name}: speed here, 1 being no adapter", figure, "min_relative_speed"


def _exported(step: str) -> str:
    """The exported step that a comparison with PyTorch's ``step`` is of: that of the portable graph has its name."""
    return step if step.endswith("_operators") else f"{step}_onnx"


def _since_release(measured: Measured) -> Iterator[tuple[str, Figure, str]]:
    if not measured.release:
        return
    now = shipped_losses(measured)
    for name, then in measured.release["loss"].items():
        if name in now:
            what = f"{name}: loss since {measured.release['version']}"
            yield what, now[name].minus(Figure(**then)), "max_loss_increase_since_release"
    if measured.bytes is not None:
        ratio = Figure.exact(round(measured.bytes / measured.release["bytes"], 4))
        yield f"bytes relative to {measured.release['version']}", ratio, "max_size_ratio_to_release"


def shipped_losses(measured: Measured) -> dict[str, Figure]:
    """The losses of what ships, through ONNX Runtime: each adapter's, on its own and on general rows; none's."""
    found = {}
    for data, figures in measured.figures.items():
        for (of, metric, step, minus), figure in figures.items():
            if (
                metric == "loss"
                and minus is None
                and step == ("quantized_onnx" if data == GENERAL else "finetuned_onnx")
            ):
                found[data if of != GENERAL or data == GENERAL else f"{GENERAL} with {data}"] = figure
    return found


def failed_thresholds(found: Iterable[Verdict]) -> list[str]:
    """One text for every threshold that is missed: the metric, its value, the threshold and its limit."""
    return [verdict.miss for verdict in found if not verdict.ok]


def worst(found: Iterable[Verdict]) -> dict[str, float]:
    """Per threshold (its name without max_ or min_) the value that comes closest to it, or misses it by most."""
    values: dict[str, tuple[bool, list[float]]] = {}
    for verdict in found:
        _, _, name = verdict.threshold.partition("_")
        values.setdefault(name, (verdict.at_most, []))[1].append(round(verdict.value, 6))
    return {name: max(several) if at_most else min(several) for name, (at_most, several) in values.items()}


def read_measured(results: Path, target: str, adapters: Iterable[str]) -> Measured:
    """What the stages wrote of ``target`` below ``results``; PressError for what is not there.

    The last release comes from baseline.json, where `olivepress repro` notes it. Speed comes from the cost of
    smoke-infer, which only the machine has that ran it.
    """
    names = list(adapters)
    sizes = [_bytes(results / f"quality/auto-opt/{target}.json")]
    sizes += [_bytes(results / f"quality/convert-adapter/{target}/{name}.json") for name in names]
    return Measured(
        {name: _figures(results / f"intervals/{target}/{name}.json") for name in (*names, GENERAL)},
        sum(sizes),
        dict(_speeds(results / "cost/smoke-infer" / target, names)),
        _release(results / "baseline.json", target),
    )


def _bytes(path: Path) -> int:
    with as_written(path):
        return int(read_json(path)["bytes"])


def _release(path: Path, target: str) -> dict[str, Any]:
    """Version, losses and bytes of the last release for ``target``; empty if there is none."""
    release = read_json(path) if path.is_file() else {}
    with as_written(path):
        of_target = release.get("targets", {}).get(target)
        return {"version": release["version"], **of_target} if of_target else {}


def _figures(path: Path) -> dict[tuple[str, str, str, str | None], Figure]:
    entries: Any = read_json(path)
    with as_written(path):
        return {
            (one["set"], one["metric"], one["step"], one["minus"]): Figure(
                *(float(one[key]) for key in ("value", "low", "high"))
            )
            for one in entries
        }


def _speeds(folder: Path, adapters: list[str]) -> Iterator[tuple[str, Figure]]:
    for name in adapters:
        path = folder / f"{name}.json"
        cost = read_json(path) if path.is_file() else {}
        with as_written(path):
            figure = [float(cost[f"relative_speed{end}"]) for end in ("", "_low", "_high") if "relative_speed" in cost]
        if figure:
            yield name, Figure(*figure)
