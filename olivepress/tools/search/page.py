"""What a search came to, as a table for the terminal, a page and JSON: every trial, the front, the choice."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from olivepress.core.outputs import atomic_output, write_json
from olivepress.page.charts import Chart, Point, scatter
from olivepress.page.render import render_template
from olivepress.tools.search.choice import Candidate, Choice, Limits, misses, pareto
from olivepress.tools.search.space import Settings, short
from olivepress.tools.search.written import limits_in_words

HEADER = ("trial", "settings", "loss increase", "95 % interval", "MB", "tokens/s", "seconds", "")


def verdict(choice: Choice) -> str:
    """The end of a search in one line."""
    if choice.chosen:
        return f"trial {choice.chosen.trial.number} holds: {short(choice.chosen.trial.settings)}."
    return "no trial holds every limit."


def reasons(choice: Choice, limits: Limits) -> list[str]:
    """What the verdict is of, and how near the nearest came if none holds."""
    found = [f"Asked for: {limits_in_words(limits)}."]
    if choice.nearest:
        near = choice.nearest.trial
        found.append(f"The nearest is trial {near.number}: {short(near.settings)}.")
        found += [f"{miss.name}: {miss.text}." for miss in misses(choice.nearest, limits)]
    return found


def rows(candidates: Sequence[Candidate], choice: Choice, limits: Limits) -> list[dict[str, Any]]:
    """A row a trial, the smallest first, ready to be read."""
    front = pareto(candidates)
    found = []
    for each in sorted(candidates, key=lambda each: (each.trial.bytes, each.trial.loss)):
        trial, missed = each.trial, misses(each, limits)
        state = "chosen" if each is choice.chosen else "on the front" if each in front else "holds"
        found.append(
            {
                "number": trial.number,
                "settings": short(trial.settings),
                "loss": f"{trial.loss:+.4f}",
                "interval": f"{trial.low:+.4f} to {trial.high:+.4f}",
                "megabytes": f"{trial.megabytes:.1f}",
                "speed": f"{each.speed.value:.0f} ({each.speed.low:.0f} to {each.speed.high:.0f})"
                if each.speed
                else "",
                "seconds": f"{trial.seconds:.0f}",
                "misses": ", ".join(miss.name for miss in missed),
                "state": state,
            }
        )
    return found


def table(candidates: Sequence[Candidate], choice: Choice, limits: Limits) -> str:
    """The rows for a terminal."""
    from tabulate import tabulate

    body = [
        (
            *(row[name] for name in ("number", "settings", "loss", "interval", "megabytes", "speed", "seconds")),
            f"misses {row['misses']}" if row["misses"] else row["state"],
        )
        for row in rows(candidates, choice, limits)
    ]
    return tabulate(body, HEADER, tablefmt="simple", disable_numparse=True)


def write(
    folder: Path,
    name: str,
    candidates: Sequence[Candidate],
    failed: Sequence[tuple[int, Settings, str]],
    choice: Choice,
    limits: Limits,
    note: str,
) -> Path:
    """Write NAME.json and NAME.html below ``folder``; returns the page's path."""
    page = {
        "name": name,
        "holds": choice.chosen is not None,
        "verdict": verdict(choice),
        "lines": [*reasons(choice, limits), *([note] if note else [])],
        "charts": charts(candidates, choice, limits),
        "rows": rows(candidates, choice, limits),
        "failed": [f"Trial {number} failed: {short(settings)}: {why}" for number, settings, why in failed],
    }
    write_json(
        folder / f"{name}.json",
        {
            "limits": asdict(limits),
            "chosen": choice.chosen.trial.number if choice.chosen else None,
            "nearest": choice.nearest.trial.number if choice.nearest else None,
            "note": note,
            "trials": [
                {**each.trial.as_json(), "tokens_per_second": asdict(each.speed) if each.speed else None}
                for each in candidates
            ],
            "failed": [{"number": number, "settings": settings, "why": why} for number, settings, why in failed],
        },
    )
    path = folder / f"{name}.html"
    with atomic_output(path) as scratch:
        scratch.write_text(render_template("search.html", page=page), encoding="utf-8")
    return path


def charts(candidates: Sequence[Candidate], choice: Choice, limits: Limits) -> list[tuple[Chart, str]]:
    """(plot, caption): loss over size, and over speed where that was measured."""
    measured = [each for each in candidates if each.speed]
    found = [
        (
            _plot(candidates, choice, limits, lambda each: each.trial.megabytes, "MB", least=True),
            "Loss increase over size: what is low and left is better",
        )
    ]
    if measured:
        found.append(
            (
                _plot(
                    measured,
                    choice,
                    limits,
                    lambda each: each.speed.value if each.speed else 0.0,
                    "tokens a second",
                    least=False,
                ),
                "Loss increase over speed here: what is low and right is better",
            )
        )
    return found


def _plot(
    candidates: Sequence[Candidate],
    choice: Choice,
    limits: Limits,
    along: Callable[[Candidate], float],
    title: str,
    *,
    least: bool,
) -> Chart:
    sign = 1 if least else -1

    def front(each: Candidate) -> bool:
        """Whether none is at least as good in both that the plot shows, and better in one."""
        mine = (sign * along(each), each.trial.loss)
        others = [(sign * along(other), other.trial.loss) for other in candidates]
        return not any(other != mine and other[0] <= mine[0] and other[1] <= mine[1] for other in others)

    points = [
        Point(
            round(along(each), 3),
            each.trial.loss,
            each.trial.low,
            each.trial.high,
            str(each.trial.number),
            _colour(each, choice, limits),
            front(each),
        )
        for each in candidates
    ]
    chosen = f" Trial {choice.chosen.trial.number} is chosen." if choice.chosen else ""
    joined = ", ".join(point.label for point in points if point.front)
    text = f"Loss increase over {title} of {len(points)} trials; on the front: {joined}.{chosen}"
    return Chart(scatter(points, title, "loss increase, nats a token"), text)


def _colour(each: Candidate, choice: Choice, limits: Limits) -> str:
    if each is choice.chosen:
        return "var(--good)"
    return "var(--quiet)" if misses(each, limits) else "var(--accent)"
