"""Bring the base model from where it lives: a folder, the Hugging Face hub, or the Azure ML catalog."""

from pathlib import Path

import click

from olivepress import checkpoint
from olivepress.errors import PressError
from olivepress.licences import declared_licence
from olivepress.outputs import sha256, sizes, whole, write_json
from olivepress.sources import bring, is_remote
from olivepress.stage import Out, stage


@stage
@click.option("--source", required=True, help="A folder, hf://owner/name@commit, or a model in Azure ML: azureml:…")
@click.option(
    "--watch", type=Path, help="The file or folder whose change makes DVC fetch again; a folder source itself."
)
@click.option(
    "--trust-remote-code/--no-trust-remote-code", default=False, help="Also take the model's own Python code."
)
@click.option("--out", type=Out, required=True, help="Folder for the checkpoint.")
@click.option("--quality", type=Out, required=True, help="JSON: source, files and their SHA-256.")
def main(source: str, watch: Path | None, trust_remote_code: bool, out: Path, quality: Path) -> None:
    """Write the base checkpoint to OUT: safetensors, configuration, tokenizer and licence, nothing pickled."""
    remote = is_remote(source)
    if watch and not remote and Path(source) != watch:
        raise PressError(f"model.watch: is {watch}, but the source is the folder {source}: set both to that folder.")
    with whole(out, keep_partial=remote) as scratch:  # a broken download goes on where it stopped
        came_from = bring(source, scratch, trust_remote_code=trust_remote_code)
    config = checkpoint.read_config(out)
    write_json(
        quality,
        {
            "source": came_from,
            "declared_licence": declared_licence(out),
            "architecture": config["architectures"][0],
            "parameters": checkpoint.parameters(out),
            "weight_bytes": checkpoint.weight_bytes(out),
            "files": {name: {"bytes": size, "sha256": sha256(out / name)} for name, size in sizes(out).items()},
        },
    )


if __name__ == "__main__":
    main()
