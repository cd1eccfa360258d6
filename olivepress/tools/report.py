"""olivepress report: one HTML page about the last run, for people who do not run the pipeline. `olivepress repro` ends
with it."""

from pathlib import Path

import click

from olivepress.core.lacks import need_address_space
from olivepress.core.outputs import as_written, atomic_output
from olivepress.page.contents import contents
from olivepress.page.provenance import compare, last_release, provenance
from olivepress.page.render import render
from olivepress.results.reader import Results, read
from olivepress.results.stale import stale_stages

PAGE = Path("report/index.html")
DRAWS = 65 * 2**30  # bytes of address space, hardly any of them of memory, without which V8 ends the process


@click.command()
@click.option("--rev", help="What to show the difference to: a tag, a branch, a commit. Default: the last release.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=PAGE, show_default=True)
def main(rev: str | None, out: Path) -> None:
    """Write the last run as one HTML page: verdict, origin, size, training, quality, speed, answers, differences."""
    root = Path.cwd()
    write(read(root, stale_stages(root)), out, rev)
    click.echo(f"{out}: open it in a browser; it needs no network")


def write(results: Results, out: Path, rev: str | None = None) -> None:
    """Write the page about ``results`` to ``out``, whole or not at all."""
    root = results.root
    release = None if rev else last_release(root, results.params["register"]["name"])
    against = compare(root, rev or release, rev or f"the last release, {release}") if rev or release else None
    need_address_space(DRAWS, f"drawing the charts of {out}")
    with as_written(root / "results"):
        page = render(contents(results), provenance(results), against)
    with atomic_output(out) as scratch:
        scratch.write_text(page, encoding="utf-8")
