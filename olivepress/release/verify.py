"""Check a release against its attestations: olivepress release verify VERSION [--folder DIR]"""

import hashlib
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from olivepress.core.dvc import dvc
from olivepress.core.errors import PressError
from olivepress.core.git import content, git, succeeds
from olivepress.core.outputs import sha256
from olivepress.release.model_signature import SIGNATURE, verify_model
from olivepress.release.provenance import read_provenance
from olivepress.release.signing import verify
from olivepress.release.versions import Released, read_artifact, versions
from olivepress.runtime.integrity import MANIFEST, differences, read_manifest, walk

if TYPE_CHECKING:
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance

GITIGNORE = re.compile(r"([^/]+/)?(adapters/)?\.gitignore")
SIGNED = "provenance.json"
SIGNERS = "allowed_signers"


def artifact_files(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of every file of an artifact, but for the .gitignore that DVC writes beside its outputs.

    PressError for what is no file of the folder: a pipe, a link that leaves it.
    """
    found = {}
    for name, problem in walk(folder):
        if problem:
            raise PressError(f"{folder}: {name!r} {problem}.")
        if not GITIGNORE.fullmatch(name):
            found[name] = sha256(folder / name)
    return found


def manifests(files: Iterable[str]) -> list[str]:
    """The manifests among the files of an artifact: one in the folder of each target."""
    return sorted(name for name in files if name.split("/")[1:] == [MANIFEST])


def sums(files: Mapping[str, str]) -> str:
    """SHA256SUMS, as ``sha256sum --check`` reads it, sorted by name."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))


def verify_release(
    root: Path,
    version: str,
    *,
    folder: Path | None = None,
    signers: Path | None = None,
    model_key: Path | None = None,
) -> list[str]:
    """One line for every check that a released version passed; PressError at the first that it fails.

    The attestations are read from the tag, not from the working tree. ``folder``: the artifact as somebody got
    it; fetched by DVC without it. ``signers``: who may sign, as OpenSSH's allowed_signers; with it a signature is
    required. ``model_key``: the public key (PEM) of the signature over the files (OpenSSF's model signing); with it
    that one is required, too.
    """
    artifact = read_artifact(root)
    version = version.removeprefix("v")
    known = versions(root, artifact.name)
    if version not in known:
        raise PressError(f"{artifact.name}: {version} is not released (there: {', '.join(known) or 'nothing'}).")
    tag = artifact.tag(version)
    paper = {name: content(root, tag, f"{artifact.attestations(version)}/{name}") for name in ("SHA256SUMS", SIGNED)}
    passed = [check_signature(root, artifact, version, paper[SIGNED], signers)]
    statement, provenance = read_provenance(paper[SIGNED].decode(errors="replace"))
    try:
        passed += check_provenance(root, artifact, version, provenance)
    except (KeyError, TypeError, ValueError) as error:
        raise PressError(f"{SIGNED}: is no provenance of a release of this project ({error!r}).") from error
    expected = {subject.name: subject.digest["sha256"] for subject in statement.pb.subject}
    if paper["SHA256SUMS"] != sums(expected).encode():
        raise PressError("SHA256SUMS and provenance.json name different files.")
    with tempfile.TemporaryDirectory() as scratch:
        if not folder:
            folder = Path(scratch) / "artifact"
            fetch(root, tag, artifact, folder)
        passed.append(check_files(folder, expected))
        if model_key:
            signature = Path(scratch) / SIGNATURE
            signature.write_bytes(content(root, tag, f"{artifact.attestations(version)}/{SIGNATURE}"))
            verify_model(folder, signature, model_key)
            passed.append(f"model signature: good, by the owner of {model_key}")
    return passed


def check_provenance(root: Path, artifact: Released, version: str, provenance: "Provenance") -> list[str]:
    """Papers, inputs, source and commands are those that the provenance names; KeyError for what it does not name."""
    tag, passed = artifact.tag(version), []
    definition = provenance.build_definition
    for key, expected in (("name", artifact.name), ("version", version)):
        if definition.external_parameters[key] != expected:
            found = definition.external_parameters[key]
            raise PressError(f"{SIGNED}: {key} is {found!r}, expected {expected!r}: it belongs to another release.")
    for entry in provenance.run_details.byproducts:
        check_digest(f"{artifact.attestations(version)}/{entry.name}", root, tag, entry.digest["sha256"])
    passed.append(f"attestations: {len(provenance.run_details.byproducts)} are those that the provenance names")
    sources = {entry.name: entry.digest for entry in definition.resolved_dependencies}
    passed += [
        check_sources(root, tag, {name: digest["sha256"] for name, digest in sources.items() if "sha256" in digest}),
        check_commit(root, tag, sources["source"]["gitCommit"], artifact.attestations(version)),
        check_commands(root, tag, dict(definition.internal_parameters["commands"])),
    ]
    return passed


def check_signature(root: Path, artifact: Released, version: str, signed: bytes, signers: Path | None) -> str:
    """A good signature by one of ``signers``, or a line that says there is none where none is asked for."""
    place = f"{artifact.attestations(version)}/{SIGNED}.sig"
    present = succeeds(root, "cat-file", "-e", f"{artifact.tag(version)}:{place}")
    if not signers:
        state = "signed, not checked" if present else "not signed"
        return f"signature: {state} (no {SIGNERS}: name who may sign to require one)"
    if not present:
        raise PressError(f"{place}: not there, and {signers} asks for a signature. Was it taken away?")
    with tempfile.TemporaryDirectory() as scratch:
        signature = Path(scratch) / f"{SIGNED}.sig"
        signature.write_bytes(content(root, artifact.tag(version), place))
        return f"signature: good, by {verify(signed, signature, signers)}"


def check_digest(path: str, root: Path, revision: str, expected: str) -> None:
    """PressError unless a file in git has the expected SHA-256."""
    actual = hashlib.sha256(content(root, revision, path)).hexdigest()
    if actual != expected:
        raise PressError(f"{path} at {revision}: SHA-256 is {actual}, the provenance says {expected}.")


def check_sources(root: Path, tag: str, digests: dict[str, str]) -> str:
    """Every input that is a file in git has the bytes that the provenance names."""
    checked = 0
    for name, digest in digests.items():
        if succeeds(root, "cat-file", "-e", f"{tag}:{name}"):
            check_digest(name, root, tag, digest)
            checked += 1
    for name in ("dvc.lock", "dvc.yaml", "params.yaml"):
        if name not in digests:
            raise PressError(f"{SIGNED}: does not name {name}.")
    return f"inputs: {checked} of {len(digests)} are files in git, all as they were"


def check_commit(root: Path, tag: str, commit: str, attestations: str) -> str:
    """The sources' commit lies before the tag, and nothing but the attestations came after it."""
    if not succeeds(root, "merge-base", "--is-ancestor", commit, tag):
        raise PressError(f"{SIGNED}: commit {commit[:10]} is not part of {tag}.")
    later = git(root, "diff", "--name-only", commit, tag, "--", ".", f":(exclude){attestations}").splitlines()
    if later:
        raise PressError(f"{tag}: {later[0]} changed after the commit that the provenance names.")
    return f"source: commit {commit[:10]}, and only the attestations after it"


def check_commands(root: Path, tag: str, commands: dict[str, str]) -> str:
    """The commands are those that dvc.lock recorded."""
    import yaml

    stages = yaml.safe_load(content(root, tag, "dvc.lock"))["stages"]
    recorded = {name: stage["cmd"] for name, stage in stages.items()}
    different = sorted(name for name in recorded.keys() | commands.keys() if recorded.get(name) != commands.get(name))
    if different:
        raise PressError(f"{SIGNED}: the command of {different[0]} is not the one in dvc.lock.")
    return f"commands: {len(commands)} stages, as dvc.lock recorded them"


def check_files(folder: Path, expected: dict[str, str]) -> str:
    """Exactly the released files, with the released bytes."""
    found = artifact_files(folder)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise PressError(f"{name}: released, but not there.")
        if name not in expected:
            raise PressError(f"{name}: there, but not part of the release.")
        if found[name] != expected[name]:
            raise PressError(f"{name}: SHA-256 is {found[name]}, released was {expected[name]}.")
    for name in manifests(found):
        check_manifest(folder / name)
    return f"files: {len(found)}, all as released"


def check_manifest(path: Path) -> None:
    """PressError unless the files of one target have the bytes that its manifest names."""
    if problems := differences(path.parent, read_manifest(path)["files"], "full"):
        raise PressError(problems[0])


def fetch(root: Path, tag: str, artifact: Released, out: Path) -> None:
    """The artifact as of ``tag``, from the DVC cache or remote, hashes checked by DVC as well."""
    dvc(root, "get", ".", artifact.folder, "--rev", tag, "--out", out)


@click.command()
@click.argument("version")
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="The artifact to check.")
@click.option("--signers", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=f"Default: {SIGNERS}.")
@click.option(
    "--model-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"Public key (PEM) of {SIGNATURE}, the signature over the files.",
)
def main(version: str, folder: Path | None, signers: Path | None, model_key: Path | None) -> None:
    """Check files, inputs, commands and signature of the released VERSION."""
    if not signers and Path(SIGNERS).is_file():
        signers = Path(SIGNERS)
    for line in verify_release(Path.cwd(), version, folder=folder, signers=signers, model_key=model_key):
        click.echo(f"ok  {line}")
