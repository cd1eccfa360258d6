"""Where the page's figures come from: the commit, what was changed since, dvc.lock, versions; and what it is held
against. Git is asked, nothing is checked out."""

import importlib.metadata
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError
from olivepress.core.git import git, succeeds
from olivepress.page.figures import better
from olivepress.results.changes import QUALITY, changed_metrics, changed_params
from olivepress.results.reader import Results

# What the results depend on most; the lock has the rest.
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "autoawq",
    "olive-ai",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-genai",
    "onnxruntime-genai-cuda",
    "dvc",
)


@dataclass(frozen=True)
class Commit:
    """``date``: of the commit, YYYY-MM-DD. ``changed``: the files that differ from it, as git status names them."""

    hash: str
    date: str
    subject: str
    changed: list[str]


@dataclass(frozen=True)
class Provenance:
    """``commit``: None outside git. ``outs``: (stage, path, MD5) of all that dvc.lock names."""

    commit: Commit | None
    outs: list[tuple[str, str, str]]
    versions: list[tuple[str, str]]


@dataclass(frozen=True)
class Row:
    """A metric or a param that differs."""

    what: str
    key: str
    before: Any
    now: Any
    change: Any = None

    @property
    def judged(self) -> str:
        """Whether it is better or worse than before, or nothing where that is not the question."""
        return better(self.key, self.change)


@dataclass(frozen=True)
class Comparison:
    """The working tree against ``name`` (a release, a commit)."""

    name: str
    commit: Commit
    metrics: list[Row]
    params: list[Row]

    @property
    def changed(self) -> list[Row]:
        """The metrics that are better or worse."""
        return [row for row in self.metrics if row.judged]

    @property
    def others(self) -> list[Row]:
        """The metrics that are new, gone, or only other than before."""
        return [row for row in self.metrics if not row.judged]


def provenance(results: Results) -> Provenance:
    """Of the results in the working tree."""
    outs = [
        (stage, out["path"], str(out.get("md5", "")))
        for stage, entry in results.lock.items()
        for out in entry.get("outs", [])
    ]
    return Provenance(commit(results.root), outs, [("python", platform.python_version()), *_versions()])


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue


def commit(root: Path, revision: str = "HEAD") -> Commit | None:
    """What git says of ``revision``; None outside git, or before the first commit. Changes are asked for HEAD alone."""
    if not succeeds(root, "rev-parse", "-q", "--verify", "--end-of-options", f"{revision}^{{commit}}"):
        return None
    log = git(root, "log", "-1", "--format=%H%x00%cs%x00%s", "--end-of-options", revision).strip()
    name, date, subject = log.split("\0")
    changed = git(root, "status", "--porcelain").splitlines() if revision == "HEAD" else []
    return Commit(name, date, subject, [line[3:] for line in changed])


def last_release(root: Path, name: str) -> str | None:
    """The tag of the newest version of ``name`` that HEAD has behind it; one that HEAD itself is does not count, since
    nothing differs from it."""
    if not succeeds(root, "rev-parse", "-q", "--verify", "HEAD"):
        return None
    listed = git(root, "tag", "--list", f"{name}@v*", "--sort=-version:refname", "--merged", "HEAD").split()
    here = git(root, "tag", "--list", "--points-at", "HEAD").split()
    return next((tag for tag in listed if tag not in here), None)


def compare(root: Path, revision: str, name: str) -> Comparison:
    """The working tree against ``revision``, which people call ``name``; PressError if git does not know it."""
    known = commit(root, revision)
    if known is None:
        raise PressError(f"--rev {revision}: git knows no such commit here. Give a tag, a branch or a hash.")
    metrics = [
        Row(_instance(path), key, values.get("old"), values.get("new"), values.get("diff"))
        for path, found in sorted(changed_metrics(root, known.hash).items())
        for key, values in sorted(found.items())
        if isinstance(values.get("new", values.get("old")), int | float)
    ]
    params = [
        Row(path, key, values.get("old"), values.get("new"))
        for path, found in sorted(changed_params(root, known.hash).items())
        for key, values in sorted(found.items())
    ]
    return Comparison(name, known, metrics, params)


def _instance(path: str) -> str:
    """results/quality/evaluate/cpu-int4/travel.json as people say it: evaluate cpu-int4 travel."""
    return path.partition(f"{QUALITY}/")[2].removesuffix(".json").replace("/", " ")
