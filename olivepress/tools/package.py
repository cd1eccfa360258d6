"""olivepress package: a release as one zip file, with samples that run it and licence texts."""

from pathlib import Path

import click

from olivepress.apps.bundle import bundle_name, write_bundle
from olivepress.core.errors import PressError
from olivepress.core.report import note
from olivepress.runtime.release import checked_release
from olivepress.tools.chat import exported_here


@click.command()
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A release's folder.")
@click.option("--target", help="The target, where there are several.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The zip; NAME-VERSION-TARGET.zip here.")
def main(folder: Path | None, target: str | None, out: Path | None) -> None:
    """Write what was registered here, or the release in FOLDER, as one zip file: model, adapters, programs in Python,
    JavaScript and C++ that stream its answers, licence texts. Every file is held to the manifest; the same release
    gives the same bytes.
    """
    if out is not None and out.suffix != ".zip":
        raise PressError(f"{out}: expected a name that ends with .zip.")
    release, manifest = checked_release(folder or exported_here(target), target, "full")
    out = out or Path(f"{bundle_name(manifest)}.zip")
    size = write_bundle(release, manifest, out)
    note(f"{out}: {manifest['name']} {manifest['version']} for {manifest['target']}, {size:,} bytes")
