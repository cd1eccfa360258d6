"""Versions and stages of the released artifact, kept by GTO as annotated git tags.

olivepress release promote VERSION STAGE | list
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from olivepress.core.errors import PressError
from olivepress.core.git import git, succeeds

BUMPS = ("patch", "minor", "major")


@dataclass(frozen=True)
class Released:
    """The artifact that dvc.yaml declares: its name, and its folder, which has one for each target."""

    name: str
    folder: str

    def tag(self, version: str) -> str:
        """GTO's tag of a version."""
        return f"{self.name}@v{version}"

    def attestations(self, version: str) -> str:
        """The folder in git of what comes with a version: sums, SBOM, provenance, changes."""
        return f"releases/{self.name}/{version}"


def read_artifact(root: Path) -> Released:
    """The one artifact of dvc.yaml, whose name is register.name of the params; PressError if there is not one."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            declared = repo.artifacts.read().get("dvc.yaml", {})
    except DvcException as error:
        raise PressError(f"dvc: {error}") from error
    if len(declared) != 1:
        raise PressError(f"dvc.yaml: artifacts: found {', '.join(declared) or 'none'}, expected one to release.")
    ((name, artifact),) = declared.items()
    return Released(name, artifact.path)


def versions(root: Path, name: str) -> list[str]:
    """Every released version, newest first, without the v."""
    return [entry["version"].removeprefix("v") for entry in registered(root, name)]


def registered(root: Path, name: str) -> list[dict[str, Any]]:
    """What GTO shows of every released version, newest first."""
    from gto.api import show
    from gto.constants import VersionSort
    from gto.exceptions import ArtifactNotFound

    try:
        return show(str(root), name, registered_only=True, sort=VersionSort.SemVer)
    except ArtifactNotFound:  # no tag of it yet
        return []


def resolve(wanted: str, known: list[str]) -> str:
    """The version that ``wanted`` means: itself, or the newest of ``known`` with its patch, minor or major raised.

    Raises PressError for anything but MAJOR.MINOR.PATCH or one of those three words.
    """
    from semver import Version

    if wanted in BUMPS:
        return str(Version.parse(known[0] if known else "0.0.0").next_version(wanted))
    try:
        return str(Version.parse(wanted.removeprefix("v")))
    except ValueError as error:
        raise PressError(
            f"VERSION: {wanted!r}: expected MAJOR.MINOR.PATCH, such as 1.2.0, or {', '.join(BUMPS)}."
        ) from error


def promote(root: Path, artifact: Released, version: str, stage: str) -> str:
    """Assign ``stage`` to a released version with GTO and push that tag; returns what to tell the user.

    Allowed stages are in .gto. A version that has the stage already is left as it is.
    """
    from gto.api import assign, find_versions_in_stage
    from gto.exceptions import GTOException

    version = version.removeprefix("v")
    known = versions(root, artifact.name)
    if version not in known:
        raise PressError(f"{artifact.name}: {version} is not released (there: {', '.join(known) or 'nothing'}).")
    current = find_versions_in_stage(str(root), artifact.name, stage) or []
    if any(entry.version == f"v{version}" for entry in current):
        return f"{artifact.name} {version} is in {stage} already"
    try:
        # forced: GTO refuses to go back to a version that had the stage before, and a rollback is just that
        tag = assign(str(root), artifact.name, stage, version=f"v{version}", force=True).tag
    except GTOException as error:
        raise PressError(f"{artifact.name} {version}: {error}") from error
    push_tag(root, tag)
    return f"{artifact.name} {version} is in {stage} now (tag {tag})"


def push_tag(root: Path, tag: str) -> None:
    """Push a tag to origin, or take it back: a tag that only one machine has would be no release."""
    try:
        git(root, "push", "-q", "origin", f"refs/tags/{tag}")
    except PressError:
        if not succeeds(root, "ls-remote", "--exit-code", "origin", f"refs/tags/{tag}"):
            git(root, "tag", "-d", tag)
        raise


@click.command()
@click.argument("version")
@click.argument("stage")
def promote_command(version: str, stage: str) -> None:
    """Put VERSION into STAGE (staging, production)."""
    root = Path.cwd()
    click.echo(promote(root, read_artifact(root), version, stage))


@click.command()
def list_command() -> None:
    """Every version with its stages."""
    root = Path.cwd()
    for entry in registered(root, read_artifact(root).name):
        stages = ", ".join(sorted({stage["stage"] for stage in entry["stages"]}))
        click.echo(f"{entry['version']:<12} {entry['commit_hexsha'][:10]}  {stages}".rstrip())
