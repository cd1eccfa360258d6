"""`dvc pull` that says which file is damaged or missing on the remote.

olivepress remote pull [--run-cache] [TARGET …]

DVC takes nothing that does not match its hash (with verify, which remote_check insists on), but then only says
that an output is missing. This names the file, the object and what is wrong with it.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from olivepress.core.dvc_rwlock import mended
from olivepress.core.errors import PressError
from olivepress.core.process import run
from olivepress.remote.check import check_settings, chosen

if TYPE_CHECKING:
    from dvc.repo import Repo


def wrong_objects(root: Path, name: str | None = None) -> list[str]:
    """One text for every file of the project whose object is neither in the local cache nor good on the remote.

    ``name``: the remote, or the default one. Reads the suspicious objects from the remote to hash them.
    """
    from dvc.repo import Repo
    from dvc_data.hashfile.hash import fobj_md5

    problems = []
    with Repo(str(root)) as repo:
        cache, remote = repo.cache.local, repo.cloud.get_remote_odb(name)
        for path, md5, listing in _files(repo):
            if cache.exists(md5):
                continue
            object_path = remote.oid_to_path(md5)
            # DVC asks for a folder's listing only: while that is there, it takes the folder's files for pushed
            again = f"delete {remote.oid_to_path(listing)} there, then" if listing else "then"
            if not remote.fs.exists(object_path):
                problems.append(f"{path}: not on the remote ({object_path}): {again} dvc push where the file is")
                continue
            with remote.fs.open(object_path, "rb") as file:
                actual = fobj_md5(file)
            if actual != md5.removesuffix(".dir"):
                problems.append(
                    f"{path}: damaged or tampered with on the remote: {object_path} has MD5 {actual}. Delete "
                    f"that object, {again} dvc push from a machine that has the file"
                )
    return problems


def _files(repo: "Repo") -> Iterator[tuple[str, str, str | None]]:
    """(path, MD5, None) of every cached out; (path, MD5, its folder's MD5) of every file in an out that is a folder."""
    from dvc_data.hashfile.tree import Tree

    for out in sorted(repo.index.outs, key=str):
        if not out.use_cache or not out.hash_info:
            continue
        yield str(out), out.hash_info.value, None
        if out.hash_info.isdir and repo.cache.local.exists(out.hash_info.value):
            for key, _, hash_info in Tree.load(repo.cache.local, out.hash_info):
                yield f"{out}/{'/'.join(key)}", hash_info.value, out.hash_info.value


def lacking_space(root: Path) -> str | None:
    """What to tell who has less room for the local cache than is still to come into it; None if there is enough."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        cache = repo.cache.local
        outs = [out for out in repo.index.outs if out.use_cache and out.hash_info]
        missing = sum(out.meta.size or 0 for out in outs if not cache.exists(out.hash_info.value))
        place = Path(cache.path)
    free = shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free
    if free > missing:
        return None
    return (
        f"pull: no disk space left for {place}: {missing / 1e6:,.1f} MB are still to come, {free / 1e6:,.1f} MB are "
        "free. Free some, then pull again: what came stays."
    )


@click.command()
@click.argument("targets", nargs=-1)
@click.option("--remote", help="The remote to pull from; the default one without it.")
@click.option("--run-cache", is_flag=True, help="Also what others' runs made of which inputs.")
def main(targets: tuple[str, ...], remote: str | None, run_cache: bool) -> None:
    """Pull TARGETS (or everything) from the project's DVC remote, and name what is wrong with it if that fails."""
    from dvc.repo import Repo

    if said := mended():
        click.echo(said, err=True)
    with Repo() as repo:
        check_settings(repo, chosen(repo, remote))
    options = [*(["--run-cache"] if run_cache else []), *(["--remote", remote] if remote else [])]
    done = run([sys.executable, "-m", "dvc", "pull", *options, *targets], show=True, check=False)
    if done.returncode:
        if said := lacking_space(Path.cwd()):
            raise PressError(said)
        wrong = wrong_objects(Path.cwd(), remote)
        if wrong:
            raise PressError("pull: nothing wrong was taken.\n  " + "\n  ".join(wrong))
        raise PressError("pull: failed; see above. Run make remote-check, then pull again: what came stays.")
