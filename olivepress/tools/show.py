"""olivepress show: what was made, how good it is, what it answers. `olivepress repro` ends with it.

Everything comes from small files: params.yaml, dvc.lock and results/. The models need not be here.
"""

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

import click

from olivepress.core.outputs import as_written
from olivepress.page.figures import in_parts, size
from olivepress.results.reader import Results, read, read_stages
from olivepress.results.stale import stale_stages

WIDEST = 120  # columns; wider text is no easier to read
NARROW = 76  # columns that any terminal has
NARROWEST = 22  # an answer's column; narrower ones stand below one another instead
LINES = 4  # of an answer
EARLIER = " (of an earlier run: something has changed since)"


@click.command()
def main() -> None:
    """Show the last run: verdict, thresholds, answers without and with each adapter, files, seconds, what is next."""
    root = Path.cwd()
    click.echo("\n".join(summary(read(root, stale_stages(root)), {})))


def summary(results: Results, did: Mapping[str, str]) -> Iterator[str]:
    """Lines for a terminal. ``did``: stage -> what this run did with it, empty where there is no run."""
    width = min(shutil.get_terminal_size((100, 24)).columns, WIDEST)
    yield from verdict(results)
    for target in results.targets:
        old = EARLIER * results.outdated(target)
        yield from _section(f"Thresholds of {target}{old}", thresholds(results, target, width))
    for target in results.targets:
        stale = any(f"smoke-infer@{name}-{target}" in results.stale for name in results.adapters)
        yield from _section(f"Answers of {target}" + EARLIER * stale, answers(results, target, width))
    yield from _section("Built", built(results))
    yield from _section("Stages, and their last run on this machine", stages(results, did))
    yield from _section("Next", following(results))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield from ["", click.style(title, bold=True), *(f"  {line}".rstrip() for line in found)]


def verdict(results: Results) -> Iterator[str]:
    """First whether all is well; then each threshold that is missed."""
    yield from _verdict(results)
    for target in filter(results.never_run, results.targets):
        yield _styled(f"{target}: exported, its structure checked, never run here; its losses are PyTorch's.", "yellow")


def _verdict(results: Results) -> Iterator[str]:
    standing = results.standing
    if standing.unmeasured:
        yield _styled(f"Not measured yet: {', '.join(standing.unmeasured)}. Run the pipeline: make repro", "yellow")
    elif standing.outdated:
        yield _styled(
            f"Nothing is known of the present state of {', '.join(standing.outdated)}: the metrics below are of an "
            "earlier run. Run the pipeline: make repro",
            "yellow",
        )
    else:
        count, missed = len(standing.found), standing.missed
        if not missed:
            yield _styled(f"{count} of {count} thresholds hold ({', '.join(results.targets)}).", "green")
            return
        targets = ", ".join(dict.fromkeys(target for target, _ in missed))
        yield _styled(f"{len(missed)} of {count} thresholds missed: nothing was registered for {targets}.", "red")
        yield from (f"  {target}: {each.miss}" for target, each in missed)


def _styled(text: str, colour: str) -> str:
    return click.style(text, fg=colour, bold=True)


def thresholds(results: Results, target: str, width: int) -> Iterator[str]:
    """Every metric under its threshold: value and verdict, or no verdict where the metric is of an earlier run.

    With the values' intervals, where ``width`` columns hold them.
    """
    found = sorted(results.verdicts(target), key=lambda each: list(results.params["thresholds"]).index(each.threshold))
    texts = {each.metric: str(each.figure) for each in found}
    names, figures = (max(map(len, column), default=0) for column in (texts, texts.values()))
    if names + figures + len("      MISSED") + 2 > width:
        texts = {name: text.partition(" ")[0] for name, text in texts.items()}
        figures = max(map(len, texts.values()), default=0)
    for threshold, several in groupby(found, key=lambda each: each.threshold):
        same = list(several)
        yield f"{threshold}: at {'most' if same[0].at_most else 'least'} {same[0].bound.partition(' ')[2]}"
        for each in same:
            word = "-" if results.outdated(target) else "holds" if each.ok else _styled("MISSED", "red")
            yield f"  {each.metric:<{names}}  {texts[each.metric]:<{figures}}  {word}"


def answers(results: Results, target: str, width: int) -> Iterator[str]:
    """Each prompt's answers without and with each adapter, side by side where ``width`` columns allow."""
    for number, (prompt, given) in enumerate(results.answers(target).items()):
        texts = {who or "no adapter": text for who, text in given.items()}
        if number:
            yield ""
        yield from textwrap.wrap(prompt, width - 2, max_lines=2, placeholder=" …")
        column = (width - 2 - 2 * len(texts)) // len(texts)
        yield from _beside(texts, column) if column >= NARROWEST else _below(texts, width - 4)


def _beside(texts: dict[str, str], column: int) -> Iterator[str]:
    cells = [[f"{who[:column]:<{column}}", *_cell(text, column)] for who, text in texts.items()]
    for row in range(max(map(len, cells))):
        line = "  ".join(cell[row] if row < len(cell) else " " * column for cell in cells).rstrip()
        yield f"  {line if row else click.style(line, dim=True)}"


def _below(texts: dict[str, str], width: int) -> Iterator[str]:
    names = max(map(len, texts))
    for who, text in texts.items():
        for number, line in enumerate(_cell(text, max(width - names - 2, NARROWEST))):
            yield f"  {'' if number else who:<{names}}  {line}".rstrip()


def _cell(text: str, width: int) -> list[str]:
    """An answer in at most LINES lines of ``width`` columns; line breaks are spaces, control characters nothing."""
    flat = "".join(char for char in " ".join(text.split()) if char.isprintable())
    return [f"{line:<{width}}" for line in textwrap.wrap(flat, width, max_lines=LINES, placeholder=" …")] or [""]


def built(results: Results) -> Iterator[str]:
    """The models and adapters that dvc.lock names: place, size, whether they are here; and of what exports are made."""
    here = {path: (results.root / path).exists() for path in results.models}
    rows = [(path, size(count), "" if here[path] else "not here") for path, count in results.models.items()]
    yield from table(rows, right={1})
    for target in results.targets:
        path = f"quality/auto-opt/{target}"
        with as_written(results.root / f"results/{path}.json"):
            parts = results.read(path).get("bytes_by_part", {})
            said = f"{target}: {in_parts(parts)}" if parts else ""
        yield from textwrap.wrap(said, NARROW, subsequent_indent="  ")


def stages(results: Results, did: Mapping[str, str]) -> Iterator[str]:
    """Seconds, memory and speed by stage, from results/cost; what this run did with it first."""
    pipeline = read_stages(results.root / "dvc.yaml")
    order = {stage: number for number, stage in enumerate(pipeline)}
    rows = []
    for stage in sorted(did or results.lock, key=lambda stage: order.get(stage.partition("@")[0], len(order))):
        cost = results.cost(stage)
        rows.append(
            (
                stage.replace("@", " "),
                did.get(stage, ""),
                f"{cost['seconds']:.1f} s" if "seconds" in cost else "",
                f"{cost['peak_memory_mib']:,} MiB" if "peak_memory_mib" in cost else "",
                f"{cost['median_tokens_per_second']:g} tokens/s" if "median_tokens_per_second" in cost else "",
            )
        )
    yield from table([row for row in rows if did or row[2]], right={2, 3, 4})


def following(results: Results) -> Iterator[str]:
    """The commands that make sense now."""
    standing = results.standing
    known, missed = not standing.unmeasured and not standing.outdated, bool(standing.missed)
    if results.stale or missed or not known:
        again = "after a change of params, data or thresholds" if known and missed else "run what is not up to date"
        rows = [("make repro", again)]
    elif not all((results.root / path).exists() for path in results.models):
        rows = [
            ("make pull", "bring what is not here from the team's DVC remote"),
            ("make repro", "make it again"),
        ]
    else:
        target = results.targets[0]
        which = "" if target == "cpu-int4" else f" TARGET={target}"
        adapter = f" ADAPTER={results.adapters[0]}" if results.adapters else ""
        rows = [
            (f"make chat{which}{adapter}", "talk to it; without ADAPTER, to the base"),
            ("make plots", "losses, sizes and speed as a page"),
            ("make push", "share it (make remote URL=… says where)"),
            ("make release VERSION=patch", "make this commit a version"),
        ]
    yield from table(rows)


def table(rows: Iterable[tuple[str, ...]], right: Iterable[int] = ()) -> Iterator[str]:
    """Columns two spaces apart; those numbered in ``right`` end at the same place. Empty columns are left out."""
    found = list(rows)
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    for row in found:
        cells = [
            f"{cell:>{width}}" if number in set(right) else f"{cell:<{width}}"
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            if width
        ]
        yield "  ".join(cells).rstrip()
