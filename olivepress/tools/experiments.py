"""olivepress experiments: DVC's experiments in a table that a screen holds.

`dvc exp show` has a column for every param and every metric of every stage, more than two hundred. Here are the
params in which experiments differ, and for each target the value closest to each threshold (results/quality/gate).
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import click

from olivepress.core.errors import PressError
from olivepress.core.process import run

GATE = PurePosixPath("results/quality/gate")


@dataclass(frozen=True)
class Experiment:
    """A row: name, params by dotted key, and metrics by (target, name); ``state``: queued, failed, or nothing."""

    name: str
    state: str
    params: dict[str, Any]
    metrics: dict[tuple[str, str], float]


@click.command()
@click.option("--num", "-n", default=1, show_default=True, help="Commits whose experiments are shown, from HEAD back.")
def main(num: int) -> None:
    """Show the workspace, the last commits and their experiments: params that differ, and the gate's metrics."""
    done = run([sys.executable, "-m", "dvc", "exp", "show", "--json", "--num", str(num)], cwd=Path.cwd())
    found = list(experiments(json.loads(done.stdout)))
    if not any(each.metrics for each in found):
        raise PressError("no experiment has passed its gate yet. Try dvc exp run -S finetune.steps=30")
    click.echo(table(found))


def experiments(shown: Iterable[dict[str, Any]]) -> Iterator[Experiment]:
    """What `dvc exp show --json` lists, commits before their experiments."""
    for commit in shown:
        yield _experiment(commit, _name(commit), "")
        for group in commit.get("experiments") or []:
            for each in (group.get("revs") or [])[:1]:
                state = (group.get("executor") or {}).get("state", "")
                yield _experiment(each, f"- {_name(each)}", "" if state == "success" else state)


def _name(entry: dict[str, Any]) -> str:
    """A branch or an experiment by its name, a commit by the beginning of its hash."""
    return entry.get("name") or re.sub(r"^([0-9a-f]{7})[0-9a-f]{33}$", r"\1", entry["rev"])


def _experiment(entry: dict[str, Any], name: str, state: str) -> Experiment:
    from dvc.utils.flatten import flatten

    data = entry.get("data") or {}
    params = {}
    for values in (data.get("params") or {}).values():
        params |= flatten(values.get("data") or {})
    metrics = {
        (PurePosixPath(path).stem, name): value
        for path, values in (data.get("metrics") or {}).items()
        if PurePosixPath(path).parent == GATE
        for name, value in (values.get("data") or {}).items()
    }
    return Experiment(name, "failed" if entry.get("error") else state, params, metrics)


def table(found: list[Experiment]) -> str:
    """A row an experiment; long headers stand in several lines."""
    from tabulate import tabulate

    keys = dict.fromkeys(key for each in found for key in each.params)
    differing = [key for key in keys if len({json.dumps(each.params.get(key)) for each in found if each.params}) > 1]
    metrics = list(dict.fromkeys(key for each in found for key in each.metrics))
    several = len({target for target, _ in metrics}) > 1
    header = [
        "",
        *(key.replace(".", ".\n") for key in differing),
        *(f"{target}\n" * several + name.replace("_", "\n") for target, name in metrics),
    ]
    body = [
        [
            f"{each.name} {each.state}".rstrip(),
            *(_text(each.params.get(key, "")) for key in differing),
            *(_text(each.metrics.get(key, "")) for key in metrics),
        ]
        for each in found
    ]
    return tabulate(body, header, tablefmt="simple", disable_numparse=True)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
