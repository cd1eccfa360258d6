"""What differs between the working tree and a commit: metrics of quality, and params. DVC reads the commit from git."""

from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError

QUALITY = "results/quality"


def changed_metrics(root: Path, revision: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Metrics file -> dotted key -> {"old", "new", "diff"}, each where it is known, of all that differ from
    ``revision``."""
    return _diff(root, "metrics", revision, targets=[str(root / QUALITY)])


def changed_params(root: Path, revision: str) -> dict[str, dict[str, dict[str, Any]]]:
    """The same for the params that a stage takes."""
    return _diff(root, "params", revision)


def _diff(root: Path, kind: str, revision: str, **options: Any) -> dict[str, Any]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from scmrepo.exceptions import SCMError

    try:
        with Repo(str(root)) as repo:
            return getattr(repo, kind).diff(a_rev=revision, b_rev="workspace", **options).get("diff", {})
    except (DvcException, SCMError) as error:
        raise PressError(f"dvc: {error}") from error
