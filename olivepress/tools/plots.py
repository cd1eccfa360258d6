"""olivepress plots: DVC's plots as a page, once params.yaml is known to be one that DVC can read."""

import os
import sys

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(arguments: tuple[str, ...]) -> None:
    """Write dvc_plots/index.html: losses, sizes and speed. ARGUMENTS are those of `dvc plots show`."""
    os.execv(sys.executable, [sys.executable, "-m", "dvc", "plots", "show", *arguments])
