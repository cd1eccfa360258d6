"""A release on the Hugging Face hub: olivepress hub push FOLDER OWNER/NAME, hub pull OWNER/NAME VERSION FOLDER

The hub's tag v1.2.0 is version 1.2.0. A version is one commit that holds the release's files as they are, and a tag
that is never moved; who pulls it gets a folder that `olivepress.load` takes. huggingface_hub knows the token: HF_TOKEN,
or `hf auth login`.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olivepress.core.errors import PressError, first_sentence
from olivepress.core.outputs import atomic_output, remove, sha256
from olivepress.fetch.files import check_names
from olivepress.fetch.sources import UNDER_WAY, resume_only
from olivepress.release.verify import artifact_files
from olivepress.runtime.integrity import MANIFEST, check_release

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"
OWN = (".gitattributes",)  # what the hub itself puts into a repository
HEADER = re.compile(r"---\n.*?\n---\n", re.DOTALL)


@dataclass(frozen=True)
class Release:
    """A release in ``folder``: its files by path, and the folders of its targets ("" if it is one target's own)."""

    folder: Path
    name: str
    version: str
    targets: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def tag(self) -> str:
        """What the hub calls this version."""
        return f"v{self.version}"

    def card(self) -> str | None:
        """A card for the repository, where each target has its own: the first one's header, and where they are."""
        if self.targets == ("",):
            return None
        first = (self.folder / self.targets[0] / CARD).read_text(encoding="utf-8")
        header = HEADER.match(first)
        rows = "".join(f"- [`{target}`]({target}/{CARD})\n" for target in self.targets)
        return f"{header[0] if header else ''}# {self.name} {self.version}\n\nOne folder a target:\n\n{rows}"


def read_release(folder: Path) -> Release:
    """The release in ``folder``, every file of it hashed and compared with its manifests; PressError if it is none."""
    if not folder.is_dir():
        raise PressError(f"{folder}: no such folder. Expected a release, as `dvc artifacts get` brings it.")
    if (folder / MANIFEST).is_file():
        targets = ("",)
    else:
        targets = tuple(sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}")))
    if not targets:
        raise PressError(f"{folder}: no {MANIFEST} there or in a folder of it. Expected a release.")
    manifests = [check_release(folder / target, "full") for target in targets]
    said = {(manifest["name"], manifest["version"]) for manifest in manifests}
    if len(said) > 1:
        found = ", ".join(f"{name} {version}" for name, version in sorted(said))
        raise PressError(f"{folder}: its targets are of several releases: {found}. Make one of them.")
    files = tuple(artifact_files(folder))
    if targets != ("",):
        for name in files:
            if name.split("/")[0] not in targets or "/" not in name:
                raise PressError(f"{folder}: {name} belongs to no target of the release. Remove it.")
    ((name, version),) = said
    return Release(folder, name, version, targets, files)


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Publish the release in ``folder`` as a version of ``repository`` (owner/name); returns what to tell the user.

    A repository that is not there is created, private unless ``public``. The same version again is a no-op if the hub
    has the same bytes. Raises PressError, and changes nothing, if it has others, and if the hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    release = read_release(folder)
    api = HfApi(library_name="olivepress")
    with _said(repository):
        refs = _refs(api, repository)
        if refs is None:
            api.create_repo(repository, private=not public, exist_ok=True)
            refs = api.list_repo_refs(repository)
        tags = {ref.name: ref.target_commit for ref in refs.tags}
        if release.tag in tags:
            if different := _differences(api, repository, tags[release.tag], release):
                raise PressError(
                    f"{repository}: has {release.tag} already, with another {different[0]}"
                    f"{f' and {len(different) - 1} more' if different[1:] else ''}. A version never changes: release "
                    "the next one."
                )
            return f"{repository}: {release.tag} is there already, with these bytes."
        head = next((ref.target_commit for ref in refs.branches if ref.name == "main"), None)
        there = _entries(api, repository, head) if head else {}
        card = release.card()
        wanted = {name: folder / name for name in release.files} | ({CARD: card.encode()} if card else {})
        operations: list[Any] = [CommitOperationAdd(name, source) for name, source in wanted.items()]
        operations += [CommitOperationDelete(name) for name in there if name not in wanted and name not in OWN]
        done = api.create_commit(
            repository, operations, commit_message=f"{release.name} {release.version}", parent_commit=head
        )
        if different := _differences(api, repository, done.oid, release):
            raise PressError(f"{repository}: the hub has another {different[0]} than was sent: not tagged. Push again.")
        api.create_tag(repository, tag=release.tag, revision=done.oid, tag_message=f"{release.name} {release.version}")
    return f"{repository}: {release.tag} is commit {done.oid}"


def pull(repository: str, version: str, folder: Path) -> Release:
    """Bring ``version`` of ``repository`` into the new ``folder``, whole and as its manifests say, or not at all."""
    from huggingface_hub import HfApi, snapshot_download

    if folder.exists():
        raise PressError(f"{folder}: is there already. Name a folder that is not.")
    tag = f"v{version.removeprefix('v')}"
    with _said(repository, tag):
        info = HfApi(library_name="olivepress").model_info(repository, revision=tag)
        check_names(repository, [sibling.rfilename for sibling in info.siblings or []])
        with atomic_output(folder, keep_partial=True) as scratch:
            resume_only(f"{repository}@{info.sha}", scratch)
            snapshot_download(repository, revision=info.sha, local_dir=scratch, ignore_patterns=list(OWN))
            try:
                release = _taken(scratch, repository, tag)
            except PressError:
                remove(scratch)  # what is wrong would be wrong again
                raise
    return Release(folder, release.name, release.version, release.targets, release.files)


def _taken(scratch: Path, repository: str, tag: str) -> Release:
    """The release that was downloaded to ``scratch``, without what the download and the hub put beside it."""
    remove(scratch / ".cache")
    remove(scratch / UNDER_WAY)
    if not (scratch / MANIFEST).is_file():
        remove(scratch / CARD)  # which push made for the repository
    try:
        release = read_release(scratch)
    except PressError as error:
        raise PressError(error.message.replace(str(scratch), f"{repository}@{tag}")) from error
    if release.tag != tag:
        raise PressError(f"{repository}: {tag} holds {release.name} {release.version}: not taken.")
    return release


def _refs(api: "HfApi", repository: str) -> Any:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.list_repo_refs(repository)
    except RepositoryNotFoundError:
        return None


def _entries(api: "HfApi", repository: str, commit: str) -> dict[str, Any]:
    """Path -> what the hub says of it, of every file at a commit."""
    from huggingface_hub.hf_api import RepoFile

    found = api.list_repo_tree(repository, recursive=True, revision=commit)
    return {entry.path: entry for entry in found if isinstance(entry, RepoFile)}


def _differences(api: "HfApi", repository: str, commit: str, release: Release) -> list[str]:
    """Files that a commit has otherwise, has not, or has too many; by the hub's own hashes."""
    there = _entries(api, repository, commit)
    card = release.card()
    surplus = set(there) - set(release.files) - set(OWN) - ({CARD} if card else set())
    other = [name for name in release.files if name not in there or not _same(release.folder / name, there[name])]
    return sorted({*other, *surplus})


def _same(path: Path, entry: Any) -> bool:
    """Whether a file has the bytes that the hub has: by their SHA-256 in its large storage, else by git's own hash."""
    if entry.lfs:
        return sha256(path) == entry.lfs.sha256
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == entry.blob_id


@contextmanager
def _said(repository: str, tag: str = "") -> Iterator[None]:
    """Within: what the hub, or the way to it, has against it is a PressError."""
    import httpx2  # what huggingface_hub speaks HTTP with
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except RevisionNotFoundError as error:
        raise PressError(f"{repository}: the hub has no {tag or 'such revision'} of it.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise PressError(
            f"{repository}: no such repository (owner/name), or a private one that this token may not see. Set "
            "HF_TOKEN, or sign in with: hf auth login"
        ) from error
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (None, 401, 403):
            raise PressError(
                f"{repository}: the hub refuses it ({status or 'no token'}). Set HF_TOKEN to a token that may write "
                "there, or sign in with: hf auth login"
            ) from error
        if status in (409, 412):
            raise PressError(
                f"{repository}: somebody else changed it meanwhile ({status}). Look, and push again."
            ) from error
        raise PressError(
            f"{repository}: the hub failed ({status}: {first_sentence(error)}). Try again later."
        ) from error
    except (OfflineModeIsEnabled, httpx2.HTTPError, ConnectionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PressError(
            f"{repository}: the hub cannot be reached ({reason}). Check the network and HF_HUB_OFFLINE, then run it "
            "again."
        ) from error


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("repository")
@click.option("--public", is_flag=True, help="A repository that is created can be read by everybody.")
def push_command(folder: Path, repository: str, public: bool) -> None:
    """Publish the release in FOLDER on the Hugging Face hub as a version of REPOSITORY (owner/name)."""
    click.echo(push(folder, repository, public=public))


@click.command()
@click.argument("repository")
@click.argument("version")
@click.argument("folder", type=click.Path(path_type=Path))
def pull_command(repository: str, version: str, folder: Path) -> None:
    """Bring VERSION of REPOSITORY (owner/name) from the Hugging Face hub into FOLDER, checked against its manifest."""
    release = pull(repository, version, folder)
    click.echo(f"{folder}: {release.name} {release.version}, {len(release.files)} files, as its manifest says")
