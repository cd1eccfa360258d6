"""One machine's part: take what others have made from the DVC remote, run the stages, give back what they made.

What others made comes through DVC's run cache: the remote lists which stage made what of which inputs, so `dvc repro`
takes earlier stages' outputs from there and runs the rest. Objects go up before the list: who sees a run finds all
of it.
"""

import sys
from pathlib import Path

from olivepress.core.errors import PressError
from olivepress.core.process import run
from olivepress.remote.check import check_settings, chosen
from olivepress.remote.push import push_runs


def check(root: Path) -> None:
    """PressError for a project without a remote, or with one whose objects DVC would take unverified."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        check_settings(repo, chosen(repo, None))


def take(root: Path) -> None:
    """Bring the remote's run cache here."""
    from dvc.repo import Repo

    check(root)
    with Repo(str(root)) as repo:
        repo.stage_cache.pull(None)


def reproduce(root: Path, stages: tuple[str, ...]) -> None:
    """`dvc repro` of ``stages``, or of everything, with outputs from the remote where others made them."""
    done = run(
        [sys.executable, "-m", "olivepress.tools.dvc_start", "repro", "--pull", *stages],
        cwd=root,
        show=True,
        check=False,
    )
    if done.returncode:
        raise PressError(f"dvc repro {' '.join(stages)}: failed; see above.")


def give(root: Path, stages: tuple[str, ...]) -> None:
    """Push what the stages made, then the list of runs."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        repo.push(targets=list(stages) or None)
    push_runs(root)
    with Repo(str(root)) as repo:
        repo.stage_cache.push(None)


def work(root: Path, stages: tuple[str, ...]) -> None:
    """All of it, in the project in ``root``; no stages: everything."""
    take(root)
    reproduce(root, stages)
    give(root, stages)
