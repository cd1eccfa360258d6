"""Publish what passed: a release manifest and a model card beside the exported model."""

from pathlib import Path

import click

from olivepress.licences import check_licence, licence_texts
from olivepress.manifest import build_manifest
from olivepress.model_card import render_card
from olivepress.outputs import whole, write_json
from olivepress.stage import InFile, InFolder, Out, stage


@stage
@click.option("--folder", type=InFolder, required=True, help="The release: model/ and adapters/ of one target.")
@click.option("--target", required=True, help="The target's name.")
@click.option("--quality-results", type=InFolder, required=True, help="Folder of the stages' quality figures.")
@click.option("--params", type=InFile, required=True, help="params.yaml")
@click.option("--adapter", "names", multiple=True, help="An adapter that ships; repeat for more.")
@click.option("--name", required=True, help="Name of the model in the registry.")
@click.option("--version", required=True, help="Semantic version.")
@click.option("--licence", required=True, help="The base's licence, an SPDX expression.")
@click.option("--allowed-licences", "allowed", multiple=True, help="A licence that may be released; repeat for more.")
@click.option("--manifest", type=Out, required=True, help="JSON: every file, hash, input, param and quality figure.")
@click.option("--card", type=Out, required=True, help="The model card, Markdown.")
def main(
    folder: Path,
    target: str,
    quality_results: Path,
    params: Path,
    names: tuple[str, ...],
    name: str,
    version: str,
    licence: str,
    allowed: tuple[str, ...],
    manifest: Path,
    card: Path,
) -> None:
    """Write MANIFEST and CARD for the files in FOLDER; fail if their licence is not among those allowed."""
    release = build_manifest(
        folder, quality_results, params, target=target, adapters=names, name=name, version=version, licence=licence
    )
    check_licence(licence, allowed, release["base"]["declared_licence"])
    with whole(card) as scratch:
        scratch.write_text(render_card(release, licence_texts(folder / "model")), encoding="utf-8")
    write_json(manifest, release)


if __name__ == "__main__":
    main()
