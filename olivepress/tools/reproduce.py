"""Rerun the whole pipeline in a temporary clone and compare every output with dvc.lock.

olivepress reproduce: exit status 0 if every output came out the same, 1 otherwise.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from olivepress.core.git import git
from olivepress.core.process import run


def outputs(lock: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(stage, path, hash) of every output in a parsed dvc.lock."""
    for stage, entry in lock["stages"].items():
        for out in entry.get("outs", []):
            yield stage, out["path"], out.get("md5", out.get("hash", ""))


def tracked(source: Path) -> list[str]:
    """The paths that git tracks below ``source``, relative to it."""
    return [name for name in git(source, "ls-files", "-z").split("\0") if name]


def clone(source: Path, destination: Path) -> None:
    """A git clone with the tracked files as they lie in ``source``'s working tree, and no DVC cache."""
    git(source, "clone", "-q", source.resolve(), destination.resolve())
    for name in tracked(source):
        target = destination / name
        if (source / name).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target)
        else:
            target.unlink(missing_ok=True)


def compare(expected: dict[str, Any], reproduced: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(verdict, stage, path) of every output of either lock; verdicts: same, different, missing, new."""
    before = {(stage, path): digest for stage, path, digest in outputs(expected)}
    after = {(stage, path): digest for stage, path, digest in outputs(reproduced)}
    rows = []
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            verdict = "missing"
        elif key not in before:
            verdict = "new"
        else:
            verdict = "same" if before[key] == after[key] else "different"
        rows.append((verdict, *key))
    return rows


@click.command()
def main() -> None:
    """Print one row per output: reproduced the same, different, missing or new."""
    root = Path.cwd()
    if not (root / "dvc.lock").is_file():
        raise click.ClickException("dvc.lock: not there. Run make repro first: it records what to compare with.")
    expected = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="olive-press-verify-") as folder:
        copy = Path(folder) / "clone"
        clone(root, copy)
        if run(["dvc", "repro", "--force", "--no-run-cache"], cwd=copy, show=True, check=False).returncode:
            raise click.ClickException("the pipeline failed in the clone; see the messages above.")
        reproduced = yaml.safe_load((copy / "dvc.lock").read_text(encoding="utf-8"))
    rows = compare(expected, reproduced)
    width = max(len(path) for _, _, path in rows)
    for verdict, stage, path in rows:
        click.echo(f"{verdict:<10} {path:<{width}}  {stage}")
    changed = [row for row in rows if row[0] != "same"]
    click.echo(f"{len(rows) - len(changed)} of {len(rows)} outputs reproduced bit for bit")
    sys.exit(bool(changed))
