"""Hold params.yaml to its schema before anything else runs: every stage waits for this one."""

import os
from pathlib import Path

import click

from olivepress.core import report
from olivepress.core.outputs import atomic_output, write_json
from olivepress.core.params import data_settings, load_params
from olivepress.core.prune import prune
from olivepress.core.stage import InFile, Out, stage


@stage
@click.option("--params", type=InFile, required=True, help="params.yaml")
@click.option("--out", type=Out, required=True, help="Always the same bytes: valid params rerun nothing by this stage.")
@click.option("--settings", type=Out, help="Folder: for each adapter a JSON of what prepare takes of the params.")
def main(params: Path, out: Path, settings: Path | None) -> None:
    """Write OUT if PARAMS are what the stages expect; name everything that is wrong with them if not.

    Under DVC also remove what is left of adapters and targets that they no longer have: stages after this one depend on
    folders that would still hold it.
    """
    found = load_params(params)
    if os.environ.get("DVC_STAGE"):
        gone = prune(Path.cwd())
        if gone.stages:
            count = f"{len(gone.paths)} files and folders"
            report.note(f"removed {count} of stages that the params no longer have: {', '.join(gone.stages)}")
    if settings:
        with atomic_output(settings) as scratch:
            scratch.mkdir()
            for adapter, values in data_settings(found).items():
                write_json(scratch / f"{adapter}.json", values)
    with atomic_output(out) as scratch:
        scratch.write_text("params.yaml fits its schema\n", encoding="utf-8")


if __name__ == "__main__":
    main()
