"""`dvc push` with all that `dvc repro --pull` elsewhere needs to take this machine's results.

`dvc push --run-cache` sends the list of runs, but not the metrics (`cache: false` in dvc.yaml, since git has them),
and DVC restores a run only if it finds every one of its outputs. They are small.
"""

import sys
from pathlib import Path
from typing import Any

import click

from olivepress.core.dvc_rwlock import mended
from olivepress.core.errors import PressError
from olivepress.core.process import run
from olivepress.remote.check import check_settings, chosen


def push_runs(root: Path, name: str | None = None) -> tuple[int, int]:
    """Push the objects of every run in the local run cache that the remote lacks; returns how many.

    And of how many runs the outputs are not all here, as after a pull from somebody who did not have them either.
    """
    from dvc.exceptions import CollectCacheError
    from dvc.repo import Repo

    pushed = incomplete = 0
    with Repo(str(root)) as repo, repo.lock:
        used: dict[Any, set[Any]] = {}
        for path in sorted(Path(repo.stage_cache.cache_dir).glob("*/*/*")):
            try:
                found = repo.stage_cache.get_used_objs([(path.parent.name, path.name)])
            except CollectCacheError:
                incomplete += 1
                continue
            for database, objects in found.items():
                used.setdefault(database, set()).update(objects)
        for objects in used.values():
            pushed += len(repo.cloud.push(objects, remote=name).transferred)
    return pushed, incomplete


@click.command()
@click.option("--remote", help="The remote to push to; the default one without it.")
def main(remote: str | None) -> None:
    """Push outputs, the run cache and what its runs made to the project's DVC remote."""
    from dvc.repo import Repo

    if said := mended():
        click.echo(said, err=True)
    with Repo() as repo:
        check_settings(repo, chosen(repo, remote))
    options = ["--remote", remote] if remote else []
    done = run([sys.executable, "-m", "dvc", "push", "--run-cache", *options], show=True, check=False)
    if done.returncode:
        raise PressError("push: failed; see above. Run make remote-check, then push again: what arrived stays.")
    pushed, incomplete = push_runs(Path.cwd(), remote)
    click.echo(f"{pushed} objects of earlier runs pushed")
    if incomplete:
        click.echo(f"{incomplete} earlier runs are left out: what they made is not all in this machine's cache")
