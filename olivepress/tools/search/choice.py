"""Which trial is chosen: the limits, by the interval; what is on the Pareto front; what is nearest if none holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from olivepress.tools.search.trial import Measured

Prefer = Literal["smallest", "fastest", "best"]
# The least that an excess is measured by: a limit of 0 nats has no share that something could be above it by.
LEAST = 0.01


@dataclass(frozen=True)
class Speed:
    """Tokens a second while decoding, on this machine: the median of its rounds, the slowest and the fastest."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Candidate:
    """A trial, with its speed if that was measured."""

    trial: Measured
    speed: Speed | None = None


@dataclass(frozen=True)
class Limits:
    """What has to hold; None is no limit. Nats a token of the answers, 10⁶ bytes, tokens a second."""

    max_loss_increase: float | None = None
    max_megabytes: float | None = None
    min_tokens_per_second: float | None = None

    @property
    def any(self) -> bool:
        return any(value is not None for value in vars(self).values())


@dataclass(frozen=True)
class Miss:
    """A limit that is not held. ``excess``: by how much, as a share of the limit; ``text``: in words."""

    name: str
    excess: float
    text: str


@dataclass(frozen=True)
class Choice:
    """``chosen`` holds every limit; if none does, it is None and ``nearest`` is above them by least."""

    chosen: Candidate | None
    nearest: Candidate | None


def misses(candidate: Candidate, limits: Limits) -> list[Miss]:
    """The limits that a candidate does not hold: the whole interval has to, for speed the slowest round."""
    found, trial = [], candidate.trial
    limit = limits.max_loss_increase
    if limit is not None and trial.high > limit:
        only = " (the figure itself holds: more rows, --rows, make the interval narrower)" * (trial.loss <= limit)
        over = f"is over {limit:g} by {trial.high - limit:.4f}"
        text = f"loss increase {trial.loss:+.4f}, up to {trial.high:+.4f}, {over}{only}"
        found.append(Miss("max_loss_increase", (trial.high - limit) / max(abs(limit), LEAST), text))
    limit = limits.max_megabytes
    if limit is not None and trial.megabytes > limit:
        text = f"{trial.megabytes:.1f} MB is over {limit:g} by {trial.megabytes - limit:.1f}"
        found.append(Miss("max_megabytes", trial.megabytes / limit - 1, text))
    limit = limits.min_tokens_per_second
    if limit is not None and candidate.speed is None:
        found.append(Miss("min_tokens_per_second", float("inf"), f"its speed was not measured, expected {limit:g}"))
    elif limit is not None and candidate.speed.low < limit:
        speed = candidate.speed
        text = (
            f"{speed.value:.0f} tokens a second, {speed.low:.0f} in the slowest round, is below {limit:g} "
            f"by {limit - speed.low:.0f}"
        )
        found.append(Miss("min_tokens_per_second", 1 - speed.low / limit, text))
    return found


def _speed(candidate: Candidate) -> float:
    return candidate.speed.value if candidate.speed else 0.0


ORDERS: dict[Prefer, Callable[[Candidate], tuple[float, ...]]] = {
    "smallest": lambda each: (each.trial.bytes, each.trial.loss, -_speed(each)),
    "fastest": lambda each: (-_speed(each), each.trial.bytes, each.trial.loss),
    "best": lambda each: (each.trial.loss, each.trial.bytes, -_speed(each)),
}


def choose(candidates: Sequence[Candidate], limits: Limits, prefer: Prefer) -> Choice:
    """The first by ``prefer`` of those that hold ``limits``; the nearest where none does."""
    holding = [each for each in candidates if not misses(each, limits)]
    if holding:
        return Choice(min(holding, key=ORDERS[prefer]), None)
    nearest = min(
        candidates,
        key=lambda each: (max(miss.excess for miss in misses(each, limits)), *ORDERS[prefer](each)),
        default=None,
    )
    return Choice(None, nearest)


def pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other is at least as good as in loss, size and speed, and better in one."""

    def figures(each: Candidate) -> tuple[float, float, float]:
        return each.trial.loss, each.trial.bytes, -_speed(each)

    def dominated(each: Candidate) -> bool:
        mine = figures(each)
        return any(
            figures(other) != mine and all(theirs <= own for theirs, own in zip(figures(other), mine, strict=True))
            for other in candidates
        )

    return [each for each in candidates if not dominated(each)]
