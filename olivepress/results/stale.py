"""Whose results lie in the workspace, but belong to an earlier run: what a run that failed or never was leaves."""

import logging
from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError


def stale_stages(root: Path) -> set[str]:
    """Names of the stages whose results here are not what today's params, data and code would give.

    Those are the stages whose deps, params or command differ from what dvc.lock has, and every stage that comes after
    one. A stage that fails leaves its earlier results where they were, so they are of an earlier run until it succeeds.
    Files that are only missing here, as after a clone without a pull, make nothing stale.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from networkx import ancestors

    logging.getLogger("dvc.progress").setLevel(logging.CRITICAL)  # no bars of hashing, here of small files
    try:
        with Repo(str(root)) as repo:
            status, graph = repo.status(), repo.index.graph
            changed = {stage for stage in graph if is_changed(status.get(stage.addressing, []))}
            # an edge leads from a stage to one that it depends on
            stale = changed.union(*(ancestors(graph, stage) for stage in changed))
            # the name alone: an address also holds the way from the working directory, if that is another
            return {stage.addressing.rpartition(":")[2] for stage in stale}
    except DvcException as error:
        raise PressError(f"dvc: {error}") from error


def is_changed(entries: list[Any]) -> bool:
    """Whether what `dvc status` says of a stage is more than that files are missing."""
    return any(
        entry == "changed command" if isinstance(entry, str) else any(map(_differs, entry.values()))
        for entry in entries
    )


def _differs(changes: dict[str, Any]) -> bool:
    """``changes``: path -> modified, new, deleted, not in cache; of a params file, param -> the same."""
    return any(isinstance(change, dict) or change in ("modified", "new") for change in changes.values())
