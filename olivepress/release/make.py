"""Release what is in the working tree: olivepress release make VERSION [--sign-key KEY] [--model-key KEY]

A version is a git tag that GTO writes; it names a commit whose dvc.lock names every byte. docs/releasing.md says what
is checked, what is written, and how register.version follows VERSION.
"""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from olivepress.core.dvc import dvc
from olivepress.core.errors import PressError
from olivepress.core.gates import Thresholds, failed_thresholds, read_measured, verdicts
from olivepress.core.git import content, git, succeeds
from olivepress.core.outputs import read_json, sha256, sizes
from olivepress.core.params import read_params
from olivepress.core.prune import dead_stages
from olivepress.release.changes import render_changes
from olivepress.release.model_signature import SIGNATURE, sign_model
from olivepress.release.provenance import write_provenance
from olivepress.release.sbom import check_lock, write_sbom
from olivepress.release.signing import sign
from olivepress.release.verify import MANIFEST, SIGNED, manifests, sums
from olivepress.release.versions import Released, push_tag, read_artifact, resolve, versions
from olivepress.remote.check import check_remote

DESCRIBED = (f"/{MANIFEST}", "/README.md")  # what says which version it is, beside a target's model
VERSION_LINE = re.compile(r"^(register:\n(?:[ #].*\n|\n)*?  version: ).*$", re.MULTILINE)


def release(
    root: Path,
    wanted: str,
    *,
    key: Path | None = None,
    model_key: Path | None = None,
    lock: str = "requirements.txt",
    image: str | None = None,
) -> str:
    """Release the project at ``root`` as ``wanted`` (1.2.0, patch, minor, major); returns what to tell the user.

    ``key``: SSH private key to sign the provenance with. ``model_key``: private key of an elliptic curve (PEM) to sign
    the files with, as OpenSSF's model signing does. ``lock``: the lock file of this environment. ``image``: SHA-256 of
    the container image that ran the pipeline. Raises PressError, and tags nothing, if any check fails.
    """
    artifact = read_artifact(root)
    check_git(root)
    git(root, "fetch", "-q", "--tags", "origin")  # git refuses to move a tag that others have elsewhere
    check_branch(root)
    version = resolve(wanted, versions(root, artifact.name))
    tag = artifact.tag(version)
    if succeeds(root, "rev-parse", "-q", "--verify", f"refs/tags/{tag}"):
        return already_released(root, artifact, version)
    check_pipeline(root)
    check_gates(root)
    check_lock(root / lock)
    click.echo(check_remote(root))
    set_version(root, artifact, version)
    write_attestations(root, artifact, version, key=key, model_key=model_key, lock=lock, image=image)
    dvc(root, "push")
    git(root, "push", "-q", "origin", "HEAD")
    from gto.api import register

    register(str(root), artifact.name, "HEAD", version=f"v{version}", message=message(root, artifact, version))
    push_tag(root, tag)
    return f"released {artifact.name} {version}: tag {tag}, pushed"


def check_git(root: Path) -> None:
    """PressError unless everything is committed, on a branch, in a repository with an origin."""
    changed = git(root, "status", "--porcelain").splitlines()
    if changed:
        raise PressError(
            f"git: the working tree is not clean ({len(changed)} changes, such as {changed[0][3:]}): commit first."
        )
    if not succeeds(root, "symbolic-ref", "-q", "HEAD"):
        raise PressError("git: no branch is checked out (detached HEAD). Check out the branch to release from.")
    if not succeeds(root, "remote", "get-url", "origin"):
        raise PressError("git: there is no remote 'origin' to push the release to: git remote add origin …")


def check_branch(root: Path) -> None:
    """PressError if origin's branch has commits that this one lacks, or lacks commits that this one has."""
    branch = git(root, "symbolic-ref", "--short", "HEAD").strip()
    upstream = f"refs/remotes/origin/{branch}"
    if not succeeds(root, "rev-parse", "-q", "--verify", upstream):
        raise PressError(f"git: branch {branch} is not on origin: git push -u origin {branch}")
    if not succeeds(root, "merge-base", "--is-ancestor", upstream, "HEAD"):
        raise PressError(f"git: origin's {branch} has commits that are not here: git pull, and look at what is new.")
    ahead = git(root, "rev-list", "--count", f"{upstream}..HEAD").strip()
    # a release that broke off after its own commits goes on from them
    foreign = git(root, "log", "--format=%s", f"{upstream}..HEAD").splitlines()
    if not all(subject.startswith("Release ") for subject in foreign):
        raise PressError(f"git: {ahead} commits of {branch} are not pushed: git push")


def already_released(root: Path, artifact: Released, version: str) -> str:
    """A no-op if the tagged version has the bytes of this tree; PressError that names what differs otherwise."""
    tag = artifact.tag(version)
    before, now = locked(content(root, tag, "dvc.lock"), artifact), locked((root / "dvc.lock").read_bytes(), artifact)
    different = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    if different:
        raise PressError(
            f"{artifact.name} {version} is released (tag {tag}), and {different[0]} differs here"
            f"{f' ({len(different)} outputs do)' if len(different) > 1 else ''}. A released version never changes: "
            "choose the next one, VERSION=patch, minor or major."
        )
    push_tag(root, tag)
    return f"{artifact.name} {version} is released already, with the same bytes: nothing to do"


def locked(lock: bytes, artifact: Released) -> dict[str, str]:
    """Path -> hash of the artifact's outputs in a dvc.lock."""
    import yaml

    stages = yaml.safe_load(lock)["stages"].values()
    outs = (out for stage in stages for out in stage.get("outs", []))
    return {out["path"]: out["md5"] for out in outs if out["path"].startswith(f"{artifact.folder}/")}


def check_pipeline(root: Path) -> None:
    """PressError unless `dvc repro` would run nothing, and dvc.lock has no stage but those of dvc.yaml."""
    from dvc.repo import Repo

    changed = json.loads(dvc(root, "status", "--json") or "{}")
    if changed:
        raise PressError(f"dvc: {', '.join(sorted(changed))} would run: make repro, look at the results, commit.")
    with Repo(str(root)) as repo:
        dead = dead_stages(repo)
    if dead:
        raise PressError(f"dvc.lock: has {', '.join(sorted(dead))}, which dvc.yaml has not: olivepress prune, commit.")


def check_gates(root: Path) -> None:
    """PressError unless the committed metrics of every target hold today's thresholds in params.yaml."""
    params = read_params(root / "params.yaml")
    for target in params["targets"]:
        measured = read_measured(root / "results", target, params["shipped"]["adapter"])
        missed = failed_thresholds(verdicts(measured, Thresholds(**params["thresholds"])))
        if missed:
            raise PressError(f"{target}: {'; '.join(missed)}. Nothing is released.")


def set_version(root: Path, artifact: Released, version: str) -> None:
    """Make register.version ``version``: in conf/config.yaml and params.yaml, then `dvc repro`, then a commit.

    Only register reads it, so only the manifest and the card are written again.
    """
    before = locked((root / "dvc.lock").read_bytes(), artifact)
    files = ["conf/config.yaml", "params.yaml"]
    for name in files:
        text, count = VERSION_LINE.subn(rf"\g<1>{version}", (root / name).read_text(encoding="utf-8"))
        if count != 1:
            raise PressError(f"{name}: expected one line 'version:' under 'register:', found {count}.")
        (root / name).write_text(text, encoding="utf-8")
    if succeeds(root, "diff", "--quiet", "--", *files):
        return
    try:
        dvc(root, "repro")
    except PressError:
        git(root, "checkout", "-q", "--", *files, "dvc.lock", "results")
        raise
    after = locked((root / "dvc.lock").read_bytes(), artifact)
    different = [path for path in after if after[path] != before.get(path)]
    assert all(path.endswith(DESCRIBED) for path in different), "a version changed the model"
    git(root, "add", "--", *files, "dvc.lock", "results")
    git(root, "commit", "-q", "-m", f"Release {artifact.name} {version}: the version")


def write_attestations(
    root: Path,
    artifact: Released,
    version: str,
    *,
    key: Path | None,
    model_key: Path | None,
    lock: str,
    image: str | None,
) -> None:
    """Write and commit SHA256SUMS, the SBOM, the changes and the provenance, signed if there are keys."""
    import yaml

    folder = root / artifact.attestations(version)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    attestations = f":(exclude){artifact.attestations(version)}"
    commit, date = git(root, "log", "-1", "--format=%H %cI", "--", ".", attestations).split()
    files = released_files(root, artifact)
    targets = [read_json(root / artifact.folder / name) for name in manifests(files)]
    manifest = targets[0]  # name, version, licence, base and inputs are the same for every target
    earlier = next((known for known in versions(root, artifact.name) if known != version), None)
    previous = (earlier, artifact.tag(earlier)) if earlier else None
    texts = {
        "SHA256SUMS": sums(files),
        "changes.md": render_changes(root, artifact.name, version, previous),
        "sbom.cdx.json": write_sbom(manifest, files, datetime.fromisoformat(date)),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    sources = {name: sha256(root / name) for name in ("dvc.lock", "dvc.yaml", "params.yaml", lock)}
    stages = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    provenance = write_provenance(
        files,
        parameters={
            **{key: manifest[key] for key in ("name", "version")},
            "targets": [manifest["target"] for manifest in targets],
            "params": read_params(root / "params.yaml"),
        },
        commands={name: stage["cmd"] for name, stage in stages.items()},
        commit=commit,
        inputs={**named_as_in_git(manifest), **sources},
        byproducts={name: sha256(folder / name) for name in texts},
        image=image,
    )
    (folder / SIGNED).write_text(provenance, encoding="utf-8")
    if key:
        sign(folder / SIGNED, key)
    if model_key:
        sign_model(root / artifact.folder, files, artifact.name, model_key, folder / SIGNATURE)
    git(root, "add", "--all", "--", artifact.attestations(version))
    if not succeeds(root, "diff", "--cached", "--quiet"):
        git(root, "commit", "-q", "-m", f"Release {artifact.name} {version}: sums, SBOM, provenance, changes")


def released_files(root: Path, artifact: Released) -> dict[str, str]:
    """Name -> SHA-256 of every file that DVC tracks in the artifact's folder: others that lie there are not fetched."""
    files = {}
    for path in locked((root / "dvc.lock").read_bytes(), artifact):
        out = root / path
        for file in [out / name for name in sizes(out)] if out.is_dir() else [out]:
            files[file.relative_to(root / artifact.folder).as_posix()] = sha256(file)
    return dict(sorted(files.items()))


def named_as_in_git(manifest: dict[str, Any]) -> dict[str, str]:
    """Input -> SHA-256; the files of a base that is a folder of the project under that folder's name."""
    source = manifest["base"]["source"]
    here = "base/" if "://" in source or source.endswith(".gguf") else f"{source}/"
    return {
        here + name.removeprefix("base/") if name.startswith("base/") else name: digest
        for name, digest in manifest["inputs_sha256"].items()
    }


def message(root: Path, artifact: Released, version: str) -> str:
    """The tag's text: the changes."""
    return (root / artifact.attestations(version) / "changes.md").read_text(encoding="utf-8").removeprefix("# ")


@click.command()
@click.argument("version")
@click.option("--sign-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="SSH private key.")
@click.option(
    "--model-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Private key of an elliptic curve (PEM): signs the files as OpenSSF's model signing does.",
)
@click.option("--lock", default="requirements.txt", show_default=True, help="The lock file of this environment.")
@click.option("--image", help="SHA-256 of the container image that ran the pipeline.")
def main(version: str, sign_key: Path | None, model_key: Path | None, lock: str, image: str | None) -> None:
    """Release the working tree as VERSION: MAJOR.MINOR.PATCH, or patch, minor, major."""
    click.echo(release(Path.cwd(), version, key=sign_key, model_key=model_key, lock=lock, image=image))
