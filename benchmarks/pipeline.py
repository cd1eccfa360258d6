"""Time the pipeline one stage at a time (`dvc repro`) and side by side (`olivepress repro`), in turns: from nothing,
unchanged, and after new travel data; writes results/bench/pipeline.json.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from olivepress.core.machine import processor
from olivepress.core.outputs import write_json
from olivepress.tools.reproduce import clone

ROOT = Path(__file__).parents[1]
WAYS = {
    "one at a time": [sys.executable, "-m", "dvc", "repro"],
    "side by side": [sys.executable, "-m", "olivepress", "repro"],
}
ROW = {"prompt": "is ghent worth a detour", "response": "Yes: its castle and canals fill a fine day by train."}


def seconds(command: list[str], folder: Path) -> float:
    """Wall seconds of a command; bytecode is kept, whatever this process does."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - start, 1)


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True)
def main(rounds: int) -> None:
    """Measure in temporary clones and print what was measured; a run whose dvc.lock is another's is an error."""
    found: dict[str, dict[str, list[float]]] = {way: {} for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="olive-press-bench-") as scratch:
        for number in range(rounds):
            locks = set()
            for way, command in WAYS.items():
                folder = Path(scratch) / f"{way.replace(' ', '-')}-{number}"
                clone(ROOT, folder)
                times = {"from_an_empty_cache": seconds([*command, "--force", "--no-run-cache"], folder)}
                times["unchanged"] = seconds(command, folder)
                with (folder / "data/travel-tiny.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(ROW) + "\n")
                times["after_new_travel_data"] = seconds(command, folder)
                locks.add((folder / "dvc.lock").read_bytes())
                for name, value in times.items():
                    found[way].setdefault(name, []).append(value)
                    click.echo(f"{way}, {name.replace('_', ' ')}: {value} s")
            if len(locks) > 1:
                raise click.ClickException("the two ways wrote different outputs: compare their dvc.lock")
    machine = {"processor": processor(), "cpus": os.cpu_count(), "system": platform.system()}
    write_json(ROOT / "results/bench/pipeline.json", {"seconds": found, "machine": machine})


if __name__ == "__main__":
    main()
