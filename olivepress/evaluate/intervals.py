"""95 % intervals by the bootstrap (Efron 1979): rows drawn anew, with replacement, and the figure computed again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 0  # the same rows give the same interval

# sums of rows and their weights [..., rows] -> the figure of each draw
Figure = Callable[["np.ndarray", "np.ndarray", int], "np.ndarray"]


@dataclass(frozen=True)
class Estimate:
    """A figure of all rows, and its interval. Of a single row nothing can be said: the interval is the value."""

    value: float
    low: float
    high: float


def mean(sums: "np.ndarray", weights: "np.ndarray", axis: int) -> "np.ndarray":
    """Mean per unit of weight (a token, a row)."""
    return sums.sum(axis) / weights.sum(axis)


def exponential(sums: "np.ndarray", weights: "np.ndarray", axis: int) -> "np.ndarray":
    """The exponential of the mean."""
    import numpy as np

    return np.exp(mean(sums, weights, axis))


def estimate(
    figure: Figure, sums: Sequence[float], weights: Sequence[float], minus: Sequence[float] | None = None
) -> Estimate:
    """``figure`` of ``sums`` over ``weights``, both by row; less that of ``minus`` on the same rows (paired).

    By scipy's percentile method. It takes milliseconds; BCa, its default, has no answer where all rows are alike, as
    where no answer matches.
    """
    import numpy as np
    from scipy.stats import bootstrap

    samples = [np.asarray(each, np.float64) for each in ([sums, weights] if minus is None else [sums, weights, minus])]

    def statistic(*drawn: "np.ndarray", axis: int) -> "np.ndarray":
        value = figure(drawn[0], drawn[1], axis)
        return value if minus is None else value - figure(drawn[2], drawn[1], axis)

    value = float(statistic(*samples, axis=0))
    if len(sums) < 2:
        return Estimate(value, value, value)
    interval = bootstrap(
        samples,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))
