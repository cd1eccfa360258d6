"""Remove what is left of adapters and targets that the params no longer have: olivepress prune"""

from pathlib import Path

import click

from olivepress.core.prune import prune


@click.command()
def main() -> None:
    """Remove the stages that dvc.yaml no longer has from dvc.lock, and their files. `dvc repro` does so first."""
    found = prune(Path.cwd())
    for path in found.paths:
        click.echo(f"removed {path}")
    stages = ", ".join(found.stages)
    click.echo(f"gone from dvc.lock: {stages}" if stages else "nothing is left of other adapters and targets")
