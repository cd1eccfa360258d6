"""Publish a release as a model in Azure Machine Learning, in a workspace or a registry.

A published version never changes: the same bytes again are a no-op, other bytes under the same version are refused.
What decides is the content hash, the SHA-256 of the sorted listing (as `sha256sum` prints it) of all files. It is kept
as a property of the version, which Azure makes immutable; tags can be edited.
"""

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.azure.workspace import ModelStore, connect, destination, explained
from olivepress.core import report
from olivepress.core.errors import PressError
from olivepress.core.git import git, succeeds
from olivepress.core.outputs import sha256, sizes
from olivepress.core.proof import EXPORTED_ONLY, never_run

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Model

# The patterns of the REST specification; a workspace counts its models' versions, a registry takes text.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
NUMBER = re.compile(r"[1-9][0-9]{0,17}")
TEXT_VERSION = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,29}")
HASH = "content_sha256"
MOST_TAGS, LONGEST_TAG = 50, 256


def publish(
    release: dict[str, Any], folder: Path, files: list[str], *, to: str, azure_name: str, azure_version: str
) -> str:
    """Upload ``files`` of ``folder`` (relative paths) as a custom model described by the manifest ``release``.

    ``azure_name`` may hold ``{name}`` and ``{target}``; ``azure_version`` is a version or "next". Returns the version
    under which these bytes are published now. Raises PressError for a name or version against Azure's rules, other
    bytes under that version, and everything that Azure refuses.
    """
    store = destination(to)
    name = _model_name(azure_name, release)
    version = _checked_version(azure_version, store)
    content = content_hash(folder, files)
    with explained(f"{name}: publishing to {store}", store):
        client = connect(store)
        same = _published(client, store, name, version, content)
        if same:
            report.note(f"{name} version {same} in {store} has these very bytes: nothing to do.")
            return same
        # beside the release, so that links do; the SDK would leave out what a .gitignore in the release names
        with tempfile.TemporaryDirectory(prefix=".upload-", dir=folder.parent) as scratch:
            upload = Path(scratch) / name
            _link(folder, files, upload)
            published = client.models.create_or_update(_model(release, upload, name, version, content))
    if published.properties.get(HASH) != content:
        raise PressError(
            f"{name}: {store} now has other bytes as version {published.version}: somebody published at the same time. "
            "Rerun."
        )
    report.note(f"{name} version {published.version} published to {store}.")
    return str(published.version)


def content_hash(folder: Path, files: list[str]) -> str:
    """SHA-256 of the listing of ``files``: one line "<sha256>  <path>" each, sorted by path."""
    lines = [f"{sha256(folder / path)}  {path}\n" for path in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _model_name(pattern: str, release: dict[str, Any]) -> str:
    try:
        name = pattern.format(name=release["name"], target=release["target"])
    except (KeyError, ValueError, IndexError) as error:
        raise PressError(
            f"azure.publish.azure_name: {pattern!r}: only {{name}} and {{target}} are filled in."
        ) from error
    if not NAME.fullmatch(name):
        raise PressError(
            f"azure.publish.azure_name: {name!r}: Azure takes letters, digits, '-' and '_', a letter or digit first, "
            "at most 255 characters."
        )
    return name


def _checked_version(version: str, store: ModelStore) -> str | None:
    """None for the next one."""
    if version == "next":
        return None
    if store.registry:
        pattern, takes = TEXT_VERSION, "a registry takes letters, digits, '.', '_' and '-', at most 30"
    else:
        pattern, takes = NUMBER, "a workspace takes whole numbers from 1"
    if not pattern.fullmatch(version):
        raise PressError(
            f"azure.publish.azure_version: {version!r}: as a model's version {takes}. "
            "Write next to have Azure count; the release's own version goes into the tags."
        )
    return version


def _published(client: "MLClient", store: ModelStore, name: str, version: str | None, content: str) -> str | None:
    """The version that holds the bytes ``content`` already; PressError if ``version`` holds others."""
    from azure.ai.ml.constants import ListViewType
    from azure.core.exceptions import ResourceNotFoundError

    try:
        if version is None:
            every = client.models.list(name, list_view_type=ListViewType.ALL)
            return next((str(model.version) for model in every if model.properties.get(HASH) == content), None)
        existing = client.models.get(name, version)
    except ResourceNotFoundError:
        if store.workspace:  # is it the model that is not there, or the workspace?
            client.workspaces.get(store.workspace)
        return None
    if existing.properties.get(HASH) == content:
        return version
    raise PressError(
        f"azure.publish.azure_version: {name} version {version} is published with other bytes "
        f"({HASH} {existing.properties.get(HASH, 'unknown')}, here {content}). Published versions never change: "
        "take another version, or next."
    )


def _link(folder: Path, files: list[str], upload: Path) -> None:
    for path in files:
        (upload / path).parent.mkdir(parents=True, exist_ok=True)
        source = (folder / path).resolve()  # DVC may have linked it into its cache
        try:
            os.link(source, upload / path)
        except OSError:  # another file system
            shutil.copyfile(source, upload / path)


def _model(release: dict[str, Any], upload: Path, name: str, version: str | None, content: str) -> "Model":
    from azure.ai.ml.constants import AssetTypes
    from azure.ai.ml.entities import Model

    uploaded = sizes(upload)
    return Model(
        path=upload,
        type=AssetTypes.CUSTOM_MODEL,
        name=name,
        version=version,
        description=(
            f"{release['name']} {release['version']} for {release['target']}: {release['base']['architecture']}, "
            f"quantized and exported to ONNX Runtime GenAI, with the adapters {', '.join(release['adapters'])}."
        ),
        tags=tags(release, content),
        properties={
            HASH: content,
            "manifest_sha256": sha256(upload / "manifest.json"),
            "files": str(len(uploaded)),
            "bytes": str(sum(uploaded.values())),
        },
    )


def tags(release: dict[str, Any], content: str) -> dict[str, str]:
    """What people look for: the release, hashes, the git commit, and as many metrics as there is room for."""
    quality = release["quality"]
    own = {name: sets["held_out"] for name, sets in quality["evaluate"].items()}
    metrics = {**own, "general": quality["evaluate-base"]["general"]}
    adapters = {path: entry["sha256"] for path, entry in release["files"].items() if path.startswith("adapters/")}
    values = {
        "release": release["version"],
        "target": release["target"],
        "adapters": ",".join(release["adapters"]),
        "licence": release["licence"],
        "base": release["base"]["source"],
        HASH: content,
        **git_state(),
        **{f"sha256.{Path(path).stem}": digest for path, digest in adapters.items()},
        **({EXPORTED_ONLY: "never run"} if never_run(release) else _measured(metrics)),
    }
    return {key: str(value)[:LONGEST_TAG] for key, value in list(values.items())[:MOST_TAGS]}


def _measured(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        **{f"loss.{data}": last(measured["loss"], "_onnx") for data, measured in metrics.items()},
        **{f"same_top_token.{data}": last(measured["same_top_token"]) for data, measured in metrics.items()},
    }


def last(steps: dict[str, Any], runtime: str = "") -> Any:
    """What was measured of the model that ships: with its adapter, or quantized where the data have none."""
    return steps.get(f"finetuned{runtime}", steps[f"quantized{runtime}"])


def git_state() -> dict[str, str]:
    """The commit that this runs from, and whether tracked files differ from it; nothing outside a repository.

    It goes to Azure alone, never into an output: outputs do not depend on it.
    """
    here = Path.cwd()
    if not succeeds(here, "rev-parse", "HEAD"):
        return {}
    clean = not git(here, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": git(here, "rev-parse", "HEAD").strip(), "git_clean": str(clean).lower()}
