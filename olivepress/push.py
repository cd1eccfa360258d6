"""`dvc push` with all that `dvc repro --pull` elsewhere needs to take this machine's results: python -m olivepress.push

`dvc push --run-cache` sends the list of runs, but not the figures (`cache: false` in dvc.yaml, since git has them),
and DVC restores a run only if it finds every one of its outputs. They are small.
"""

import subprocess
import sys
from pathlib import Path

import click

from olivepress.errors import PressError
from olivepress.remote_check import check_settings, chosen


def push_runs(root: Path, name: str | None = None) -> int:
    """Push the objects of every run in the local run cache that the remote lacks; returns how many."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo, repo.lock:
        entries = Path(repo.stage_cache.cache_dir).glob("*/*/*")
        runs = [(path.parent.name, path.name) for path in entries]
        used = repo.stage_cache.get_used_objs(runs)
        return sum(len(repo.cloud.push(objects, remote=name).transferred) for objects in used.values())


@click.command()
@click.option("--remote", help="The remote to push to; the default one without it.")
def main(remote: str | None) -> None:
    """Push outputs, the run cache and what its runs made to the project's DVC remote."""
    from dvc.repo import Repo

    with Repo() as repo:
        check_settings(repo, chosen(repo, remote))
    options = ["--remote", remote] if remote else []
    done = subprocess.run([sys.executable, "-m", "dvc", "push", "--run-cache", *options], check=False)
    if done.returncode:
        raise PressError("push: failed; see above. Run make remote-check, then push again: what arrived stays.")
    click.echo(f"{push_runs(Path.cwd(), remote)} objects of earlier runs pushed")


if __name__ == "__main__":
    main()
