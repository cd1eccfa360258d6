"""olivepress verify FOLDER: is a release what its manifest says? Loads nothing."""

from pathlib import Path

import click

from olivepress.core.errors import PressError
from olivepress.runtime.integrity import check_release
from olivepress.runtime.release import find_release


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--target", help="The target, where there are several.")
def main(folder: Path, target: str | None) -> None:
    """Hash every file of the release in FOLDER and hold it to its manifest; `release verify` checks who made it."""
    release = find_release(folder, target)
    manifest = check_release(release, "full")
    if target is not None and manifest["target"] != target:
        raise PressError(f"{release}: is for the target {manifest['target']!r}, not {target!r}.")
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    click.echo(
        f"ok  {manifest['name']} {manifest['version']} for {manifest['target']}: {len(manifest['files'])} files, "
        f"{size:,} bytes, all as manifest.json says"
    )
