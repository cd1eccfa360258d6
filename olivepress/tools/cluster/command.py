"""olivepress cluster: the stages on several machines, by Ray or by Azure ML."""

from pathlib import Path
from typing import Any

import click
import yaml

from olivepress.core.params import asks_for_cuda, read_params
from olivepress.core.report import note
from olivepress.tools.cluster import groups as made
from olivepress.tools.cluster.work import check, reproduce, take
from olivepress.tools.cluster.work import work as work_here


@click.command()
@click.option("--address", help="The Ray cluster: ray://HOST:10001, auto, …; without it this machine.")
@click.option("--workers", type=click.IntRange(1, 256), default=2, show_default=True, help="At a time, here.")
@click.option("--cpus", type=click.FloatRange(0.1), help="Processors of a group; cpu.threads without it.")
@click.option("--gpus", type=click.FloatRange(0), help="GPUs of a group; 1 without it where the profile uses CUDA.")
@click.option("--dry-run", is_flag=True, help="Print the groups, checked by Ray; start nothing.")
def ray(address: str | None, workers: int, cpus: float | None, gpus: float | None, dry_run: bool) -> None:
    """Run the pipeline on a Ray cluster, adapters and targets beside one another; then bring everything here."""
    from olivepress.tools.azure_job import location
    from olivepress.tools.cluster import ray_engine

    root = Path.cwd()
    params = read_params(root / "params.yaml")
    cpus = cpus or params["cpu"]["threads"] or 1
    gpus = int(bool(asks_for_cuda(params))) if gpus is None else gpus
    every = made.groups(root)
    if dry_run:
        ray_engine.tasks(every, cpus, gpus)
        plan = [
            {"group": group.name, "needs": list(group.needs), "stages": list(group.stages)}
            | {key: value for key, value in ray_engine.options(group, cpus, gpus).items() if key.startswith("num_")}
            for group in every
        ]
        click.echo(yaml.safe_dump(plan, sort_keys=False, width=1000), nl=False)
        return
    check(root)
    archive = ray_engine.packed(root, location(root))
    ended = ray_engine.run(every, archive, address=address, workers=workers, cpus=cpus, gpus=gpus)
    join(root)
    for done in ended:
        click.echo(f"{done.name:<32} {done.seconds:7.1f} s  {done.machine}  {', '.join(done.ran) or 'all taken'}")


def join(root: Path) -> None:
    """Everything that the groups made, here: outputs, metrics and dvc.lock, as a run on this machine leaves them."""
    note("Taking what the groups made.")
    take(root)
    reproduce(root, ())


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the pipeline job, checked by the SDK; submit nothing.")
def azure(dry_run: bool) -> None:
    """Submit the pipeline to Azure ML as a job for each group of stages."""
    from olivepress.tools import azure_job
    from olivepress.tools.cluster import azure_engine

    def specify(params: dict[str, Any], code: Path, tags: dict[str, str]) -> dict[str, Any]:
        return azure_engine.specification(params, made.groups(Path.cwd()), code, tags)

    azure_job.submit("the pipeline", specify, azure_engine.checked, dry_run=dry_run)


@click.command()
@click.argument("stages", nargs=-1)
def work(stages: tuple[str, ...]) -> None:
    """One machine's part, which the engines call: STAGES, or all, with the DVC remote's run cache before and after."""
    work_here(Path.cwd(), stages)
