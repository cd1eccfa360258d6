"""Quality and cost of the last run, a table for each stage: python -m olivepress.show_metrics

`dvc metrics show` prints one table with a column for every figure of every stage, which no screen holds.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml
from tabulate import tabulate

from olivepress.changes import flat
from olivepress.errors import PressError

LEFT_OUT = {"sha256", "content_sha256", "machine"}  # for a diff, not an eye
LONGEST_TEXT = 60


@click.command()
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=Path("results"), show_default=True)
def main(results: Path) -> None:
    """Print what RESULTS holds: a row for each figure, a column for each adapter or target."""
    order = pipeline_order()
    stages = [(kind, stage) for kind in ("quality", "cost") for stage in stage_files(results / kind, order)]
    if not stages:
        raise PressError(f"{results}: no figures of a run. Run the pipeline first: make repro")
    for kind, (stage, files) in stages:
        click.echo(f"{kind}: {stage}\n{table(files)}\n")


def pipeline_order() -> list[str]:
    """The names of the stages as dvc.yaml lists them; none outside a checkout."""
    path = Path("dvc.yaml")
    return list(yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]) if path.is_file() else []


def stage_files(folder: Path, order: list[str]) -> Iterator[tuple[str, dict[str, Path]]]:
    """(stage, instance -> its JSON file), by ``order``; the instance of a stage that has only one is empty."""
    places = {name: place for place, name in enumerate(order)}
    for path in sorted(folder.glob("*"), key=lambda path: (places.get(path.stem, len(places)), path.stem)):
        if path.is_dir():
            yield path.name, {file.stem: file for file in sorted(path.glob("*.json"))}
        elif path.suffix == ".json":
            yield path.stem, {"": path}


def table(files: dict[str, Path]) -> str:
    """The figures of one stage's files side by side."""
    columns = {}
    for name, path in files.items():
        try:
            columns[name] = dict(figures(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            raise PressError(f"{path}: cannot be read as JSON ({error}). dvc repro writes it again.") from error
    rows = dict.fromkeys(key for column in columns.values() for key in column)
    body = [[key, *(column.get(key, "") for column in columns.values())] for key in rows]
    return tabulate(body, ["", *columns] if any(columns) else (), tablefmt="plain", disable_numparse=True)


def figures(value: Any) -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every number and text in a JSON value; lists, files and LEFT_OUT's keys are not shown."""
    for key, figure in flat(value).items():
        if isinstance(figure, list) or key.startswith("files.") or key.rpartition(".")[2] in LEFT_OUT:
            continue
        if isinstance(figure, int) and not isinstance(figure, bool):
            yield key, f"{figure:,}"
        else:
            text = " ".join(str(figure).split())
            yield key, text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


if __name__ == "__main__":
    main()
