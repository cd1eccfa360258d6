"""Quality and cost of the last run, a table for each stage: olivepress metrics

`dvc metrics show` prints one table with a column for every metric of every stage, which no screen holds, and does not
know which of them are of an earlier run.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from olivepress.core.errors import PressError
from olivepress.results.reader import read_stages
from olivepress.results.stale import stale_stages

RESULTS = Path("results")
EARLIER = "of an earlier run: params, data or code have changed since, and the stage has not run"


@click.command()
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True)
def main(results: Path) -> None:
    """Print what RESULTS holds: a row for each metric, a column for each adapter or target."""
    order = pipeline_order()
    stages = [(kind, stage) for kind in ("quality", "cost") for stage in stage_files(results / kind, order)]
    if not stages:
        raise PressError(f"{results}: no metrics of a run. Run the pipeline first: make repro")
    stale = stale_stages(Path.cwd()) if order and results == RESULTS else set()
    for kind, (stage, files) in stages:
        earlier = {name for name in files if instance(stage, name) in stale}
        click.echo(f"{kind}: {stage}\n{table({name + '*' * (name in earlier): file for name, file in files.items()})}")
        click.echo(f"* {EARLIER}\n" if earlier else "")


def instance(stage: str, name: str) -> str:
    """DVC's name of the stage that wrote ``name`` (an adapter, a target, target/adapter, nothing)."""
    return "@".join(part for part in (stage, "-".join(reversed(name.split("/")))) if part)


def pipeline_order() -> list[str]:
    """The names of the stages as dvc.yaml lists them; none outside a checkout."""
    path = Path("dvc.yaml")
    return list(read_stages(path)) if path.is_file() else []


def stage_files(folder: Path, order: list[str]) -> Iterator[tuple[str, dict[str, Path]]]:
    """(stage, instance -> its JSON file), by ``order``; the instance of a stage that has only one is empty."""
    places = {name: place for place, name in enumerate(order)}
    for path in sorted(folder.glob("*"), key=lambda path: (places.get(path.stem, len(places)), path.stem)):
        if path.is_dir():
            files = sorted(path.rglob("*.json"))
            yield path.name, {file.relative_to(path).with_suffix("").as_posix(): file for file in files}
        elif path.suffix == ".json":
            yield path.stem, {"": path}


def table(files: dict[str, Path]) -> str:
    """The metrics of one stage's files side by side."""
    from tabulate import tabulate

    columns = {}
    for name, path in files.items():
        try:
            columns[name] = dict(numbers(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            raise PressError(f"{path}: cannot be read as JSON ({error}). dvc repro writes it again.") from error
    rows = dict.fromkeys(key for column in columns.values() for key in column)
    body = [[key, *(column.get(key, "") for column in columns.values())] for key in rows]
    return tabulate(body, ["", *columns] if any(columns) else (), tablefmt="plain", disable_numparse=True)


def numbers(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every number in a JSON object."""
    from dvc.utils.flatten import flatten

    for key, number in flatten(value).items():
        if isinstance(number, int | float):
            yield key, f"{number:,}" if isinstance(number, int) else str(number)
