"""What the last release measured, noted where the gates of the next run see it: results/baseline.json."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError
from olivepress.core.gates import read_measured, shipped_losses
from olivepress.core.git import content, git, succeeds
from olivepress.core.outputs import write_json
from olivepress.core.params import read_params

BASELINE = "results/baseline.json"
READ = ("results/intervals", "results/quality/auto-opt", "results/quality/convert-adapter")


def note_release(root: Path) -> str | None:
    """Write BASELINE from the newest release of register.name, read from its tag; its version, None if there is none.

    The file is in git and a dep of the stage gate, so that a run is a function of what is committed; it changes with
    a release, and then the gates run again. It stays as it is where git knows no release: a shallow clone has no tags.
    """
    name = read_params(root / "params.yaml")["register"]["name"]
    if not succeeds(root, "rev-parse", "--git-dir") or not git(root, "tag", "--list", f"{name}@v*").strip():
        return None
    from olivepress.release.versions import versions

    known = versions(root, name)
    if not known:
        return None
    found = {"version": known[0], "targets": dict(_targets(root, f"{name}@v{known[0]}"))}
    path = root / BASELINE
    if not path.is_file() or json.loads(path.read_text(encoding="utf-8")) != found:
        write_json(path, found)
    return known[0]


def _targets(root: Path, tag: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Target -> the losses with intervals, and the bytes, of what the release has for it.

    Nothing of a release that is older than these figures.
    """
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        for path in git(root, "ls-tree", "-r", "--name-only", tag, "--", "params.yaml", *READ).splitlines():
            (there / path).parent.mkdir(parents=True, exist_ok=True)
            (there / path).write_bytes(content(root, tag, f"./{path}"))
        params = read_params(there / "params.yaml")
        for target in params["targets"]:
            with suppress(PressError):
                measured = read_measured(there / "results", target, params["shipped"]["adapter"])
                losses = {name: asdict(figure) for name, figure in shipped_losses(measured).items()}
                yield target, {"loss": losses, "bytes": measured.bytes}
