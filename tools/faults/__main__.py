"""Run the table of faults, or a part of it: python -m tools.faults --kind signal --stage finetune"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from olivepress.core.errors import PressError
from tools.faults.bench import Bench, Fault, bench
from tools.faults.cases import Case, table


@click.command()
@click.option("--kind", "kinds", multiple=True, help="Only cases of these kinds.")
@click.option("--stage", "stages", multiple=True, help="Only cases of these stages.")
@click.option("--cases", type=click.IntRange(1), help="A seeded choice of so many, of every kind some.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--finished", type=click.Path(path_type=Path), help="A finished project to copy; else one is run first.")
@click.option("--image", help="Also stop stages that run in this image of docker/ (`make image-cpu`).")
def main(
    kinds: tuple[str, ...],
    stages: tuple[str, ...],
    cases: int | None,
    seed: int,
    finished: Path | None,
    image: str | None,
) -> None:
    """Print a line for each case, then how many of each kind held. Exit status 1 if one did not."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what is mounted is not left behind
    draw = random.Random(seed)
    held: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory(prefix="olivepress-faults-") as folder,
        bench(Path(folder) / "b", draw, finished, image) as made,
    ):
        if not made.mounted:
            click.echo("no file system can be mounted here: full disks and read-only folders are left out")
        chosen = [
            case for case in table(made)
            if (not kinds or case.kind in kinds) and (not stages or case.stage in stages)
        ]  # fmt: skip
        for case in _some(chosen, cases, draw):
            tried[case.kind] += 1
            held[case.kind] += _hold(made, case)
    for kind, count in tried.items():
        click.echo(f"{kind}: {held[kind]} of {count} held")
    click.echo(f"{held.total()} of {tried.total()} cases held, seed {seed}")
    sys.exit(held != tried)


def _some(cases: list[Case], count: int | None, draw: random.Random) -> list[Case]:
    """``count`` of the cases, the kinds in turns."""
    if count is None or count >= len(cases):
        return cases
    by_kind: dict[str, list[Case]] = {}
    for case in draw.sample(cases, len(cases)):
        by_kind.setdefault(case.kind, []).append(case)
    chosen: list[Case] = []
    while len(chosen) < count:
        for some in by_kind.values():
            chosen += [some.pop()] if some and len(chosen) < count else []
    return chosen


def _hold(made: Bench, case: Case) -> bool:
    begun = made.began = time.time()
    try:
        what, held = case.run(made), True
    except (Fault, subprocess.CalledProcessError, PressError) as fault:
        what, held = f"FAULT: {fault}", False
        made.mend()
    click.echo(f"{'ok' if held else 'no'}  {case}: {what} ({time.time() - begun:.0f} s)")
    return held


if __name__ == "__main__":
    main()
