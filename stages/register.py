"""Publish what passed: a release manifest and a model card beside the exported model, and the whole to Azure ML."""

from pathlib import Path

import click

from olivepress.azure.publish import content_hash, publish
from olivepress.core.outputs import atomic_output, write_json
from olivepress.core.stage import InFile, InFolder, Out, stage
from olivepress.register.licences import check_licence, licence_texts
from olivepress.register.manifest import build_manifest
from olivepress.register.model_card import render_card


@stage
@click.option("--folder", type=InFolder, required=True, help="The release: model/ and adapters/ of one target.")
@click.option("--target", required=True, help="The target's name.")
@click.option("--inputs", type=InFolder, required=True, help="Folder of what the inputs are, and their hashes.")
@click.option("--quality-results", type=InFolder, required=True, help="Folder of the stages' metrics.")
@click.option("--params", type=InFile, required=True, help="params.yaml")
@click.option("--adapter", "names", multiple=True, help="An adapter that ships; repeat for more.")
@click.option("--name", required=True, help="Name of the model in the registry.")
@click.option("--version", required=True, help="Semantic version.")
@click.option("--licence", required=True, help="The base's licence, an SPDX expression.")
@click.option("--allowed-licences", "allowed", multiple=True, help="A licence that may be released; repeat for more.")
@click.option("--backend", type=click.Choice(["local", "azureml"]), default="local", help="azureml publishes, too.")
@click.option("--destination", default="workspace", help="workspace (the environment's), or azureml://…")
@click.option("--azure-name", default="{name}", help="Name of the model in Azure; {name} and {target} are filled in.")
@click.option("--azure-version", default="next", help="next, or a version: a whole number in a workspace.")
@click.option("--manifest", type=Out, required=True, help="JSON: every file, hash, input, param and metric.")
@click.option("--card", type=Out, required=True, help="The model card, Markdown.")
@click.option("--record", type=Out, required=True, help="JSON: what was published, and its content hash.")
def main(
    folder: Path,
    target: str,
    inputs: Path,
    quality_results: Path,
    params: Path,
    names: tuple[str, ...],
    name: str,
    version: str,
    licence: str,
    allowed: tuple[str, ...],
    backend: str,
    destination: str,
    azure_name: str,
    azure_version: str,
    manifest: Path,
    card: Path,
    record: Path,
) -> None:
    """Write MANIFEST and CARD for the files in FOLDER, publish all, RECORD it; fail if the licence is not allowed."""
    release = build_manifest(
        folder,
        inputs,
        quality_results,
        params,
        target=target,
        adapters=names,
        name=name,
        version=version,
        licence=licence,
    )
    check_licence(licence, allowed, release["base"]["declared_licence"])
    with atomic_output(card) as scratch:
        scratch.write_text(render_card(release, licence_texts(folder / "model")), encoding="utf-8")
    write_json(manifest, release)
    files = [*release["files"], *(path.relative_to(folder).as_posix() for path in (manifest, card))]
    published = {"backend": backend, "name": name, "version": version, "content_sha256": content_hash(folder, files)}
    if backend == "azureml":
        published["azure_version"] = publish(
            release, folder, files, to=destination, azure_name=azure_name, azure_version=azure_version
        )
    write_json(record, published)


if __name__ == "__main__":
    main()
