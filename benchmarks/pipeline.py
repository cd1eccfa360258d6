"""Time the pipeline: from an empty cache, unchanged, and after new travel data; writes results/bench/pipeline.json."""

import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import click

from olivepress.core.machine import processor
from olivepress.core.outputs import write_json
from olivepress.tools.reproduce import clone

ROOT = Path(__file__).parents[1]


def repro(folder: Path, *options: str) -> float:
    """Wall seconds of one `dvc repro`."""
    start = time.perf_counter()
    subprocess.run(["dvc", "repro", *options], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - start, 1)


def main() -> None:
    """Measure in a temporary clone and print what was measured."""
    with tempfile.TemporaryDirectory(prefix="olive-press-bench-") as scratch:
        folder = Path(scratch) / "clone"
        clone(ROOT, folder)
        seconds = {"from_an_empty_cache": repro(folder, "--force", "--no-run-cache"), "unchanged": repro(folder)}
        row = {"prompt": "is ghent worth a detour", "response": "Yes: its castle and canals fill a fine day by train."}
        with (folder / "data/travel-tiny.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        seconds["after_new_travel_data"] = repro(folder)
    machine = {"processor": processor(), "cpus": os.cpu_count(), "system": platform.system()}
    write_json(ROOT / "results/bench/pipeline.json", {"seconds": seconds, "machine": machine})
    for name, value in seconds.items():
        click.echo(f"{name.replace('_', ' ')}: {value} s")


if __name__ == "__main__":
    main()
