"""Models in Azure Machine Learning, in a workspace or a registry: publish a release, download a base.

A published version never changes: the same bytes again are a no-op, other bytes under the same version are refused.
What decides is the content hash, the SHA-256 of the sorted listing (as `sha256sum` prints it) of all files. It is kept
as a property of the version, which Azure makes immutable; tags can be edited.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olivepress.azure_workspace import REGISTRY_ID, WORKSPACE_ID, Place, connect, destination, explained, workspace
from olivepress.errors import PressError
from olivepress.outputs import remove, sha256, sizes

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Model

# The patterns of the REST specification; a workspace counts its models' versions, a registry takes text.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
NUMBER = re.compile(r"[1-9][0-9]{0,17}")
TEXT_VERSION = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,29}")
HASH = "content_sha256"
MOST_TAGS, LONGEST_TAG = 50, 256

MODEL_ID = re.compile(
    rf"azureml:(?P<name>[^:/]+):(?P<version>[^:/]+)"
    rf"|(?:azureml:)?/?/?(?:{REGISTRY_ID}|{WORKSPACE_ID})/models/(?P<long_name>[^/]+)/versions/(?P<long_version>[^/]+)"
)


# ---- publish ---------------------------------------------------------------------------------------------------


def publish(
    release: dict[str, Any], folder: Path, files: list[str], *, to: str, azure_name: str, azure_version: str
) -> str:
    """Upload ``files`` of ``folder`` (relative paths) as a custom model described by the manifest ``release``.

    ``azure_name`` may hold ``{name}`` and ``{target}``; ``azure_version`` is a version or "next". Returns the version
    under which these bytes are published now. Raises PressError for a name or version against Azure's rules, other
    bytes under that version, and everything that Azure refuses.
    """
    place = destination(to)
    name = _model_name(azure_name, release)
    version = _checked_version(azure_version, place)
    content = content_hash(folder, files)
    with explained(f"{name}: publishing to {place}", place):
        client = connect(place)
        same = _published(client, place, name, version, content)
        if same:
            click.echo(f"{name} version {same} in {place} has these very bytes: nothing to do.", err=True)
            return same
        # beside the release, so that links do; the SDK would leave out what a .gitignore in the release names
        with tempfile.TemporaryDirectory(prefix=".upload-", dir=folder.parent) as scratch:
            upload = Path(scratch) / name
            _link(folder, files, upload)
            published = client.models.create_or_update(_model(release, upload, name, version, content))
    if published.properties.get(HASH) != content:
        raise PressError(
            f"{name}: {place} now has other bytes as version {published.version}: somebody published at the same time. "
            "Rerun."
        )
    click.echo(f"{name} version {published.version} published to {place}.", err=True)
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


def _checked_version(version: str, place: Place) -> str | None:
    """None for the next one."""
    if version == "next":
        return None
    if place.registry:
        pattern, takes = TEXT_VERSION, "a registry takes letters, digits, '.', '_' and '-', at most 30"
    else:
        pattern, takes = NUMBER, "a workspace takes whole numbers from 1"
    if not pattern.fullmatch(version):
        raise PressError(
            f"azure.publish.azure_version: {version!r}: as a model's version {takes}. "
            "Write next to have Azure count; the release's own version goes into the tags."
        )
    return version


def _published(client: "MLClient", place: Place, name: str, version: str | None, content: str) -> str | None:
    """The version that holds the bytes ``content`` already; PressError if ``version`` holds others."""
    from azure.ai.ml.constants import ListViewType
    from azure.core.exceptions import ResourceNotFoundError

    try:
        if version is None:
            every = client.models.list(name, list_view_type=ListViewType.ALL)
            return next((str(model.version) for model in every if model.properties.get(HASH) == content), None)
        found = client.models.get(name, version)
    except ResourceNotFoundError:
        if place.workspace:  # is it the model that is not there, or the workspace?
            client.workspaces.get(place.workspace)
        return None
    if found.properties.get(HASH) == content:
        return version
    raise PressError(
        f"azure.publish.azure_version: {name} version {version} is published with other bytes "
        f"({HASH} {found.properties.get(HASH, 'unknown')}, here {content}). Published versions never change: "
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
    """What people look for: the release, hashes, the git commit, and as many quality figures as there is room for."""
    evaluate = release["quality"]["evaluate"]
    adapters = {path: entry["sha256"] for path, entry in release["files"].items() if path.startswith("adapters/")}
    losses = {data: loss.get("finetuned_onnx", loss["quantized_onnx"]) for data, loss in evaluate["loss"].items()}
    found = {
        "release": release["version"],
        "target": release["target"],
        "adapters": ",".join(release["adapters"]),
        "licence": release["licence"],
        "base": release["base"]["source"],
        HASH: content,
        **git_state(),
        **{f"sha256.{Path(path).stem}": digest for path, digest in adapters.items()},
        **{f"loss.{data}": loss for data, loss in losses.items()},
        **{f"same_top_token.{name}": figures["same_top_token"] for name, figures in evaluate["agreement"].items()},
    }
    return {key: str(value)[:LONGEST_TAG] for key, value in list(found.items())[:MOST_TAGS]}


def git_state() -> dict[str, str]:
    """The commit that this runs from, and whether tracked files differ from it; nothing outside a repository.

    It goes to Azure alone, never into an output: outputs do not depend on it.
    """

    def git(*arguments: str) -> str | None:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {"git_commit": commit, "git_clean": str(not git("status", "--porcelain", "--untracked-files=no")).lower()}


# ---- download --------------------------------------------------------------------------------------------------


def is_model_id(text: str) -> bool:
    """Whether ``text`` is meant as a model in Azure ML, well-formed or not."""
    return text.startswith(("azureml:", "/subscriptions/"))


def parse(text: str) -> tuple[Place, str, str]:
    """(place, name, version) of a model id; ``azureml:NAME:VERSION`` means the environment's workspace."""
    match = MODEL_ID.fullmatch(text)
    if not match:
        raise PressError(
            f"model.source: {text}: expected azureml://registries/REGISTRY/models/NAME/versions/VERSION, "
            "azureml:NAME:VERSION (in the environment's workspace) or a workspace model's long id, "
            "azureml://subscriptions/S/resourceGroups/G/workspaces/W/models/NAME/versions/VERSION."
        )
    found = {key: value for key, value in match.groupdict().items() if value}
    if "name" in found:
        return workspace(), found["name"], found["version"]
    name, version = found.pop("long_name"), found.pop("long_version")
    return Place(**found), name, version


def download(source: str, folder: Path, patterns: tuple[str, ...]) -> None:
    """Bring the checkpoint in the model ``source`` into ``folder``: the files that ``patterns`` name, flat.

    A catalogue model may be an MLflow folder: its checkpoint is where the safetensors lie, its tokenizer beside them or
    in a folder of its own, its licence above. The SDK holds one file at a time in memory.
    """
    place, name, version = parse(source)
    remove(folder)  # the SDK starts every file anew, and a half-written one of an earlier try must not stay
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
        click.echo(f"{name} version {version} from {place}", err=True)
        with explained(f"model.source: {source}", place):
            connect(place).models.download(name, version, download_path=scratch)
        for path in _checkpoint_files(Path(scratch), source, patterns):
            if not (folder / path.name).exists():
                path.rename(folder / path.name)


def _checkpoint_files(root: Path, source: str, patterns: tuple[str, ...]) -> list[Path]:
    weights = {path.parent for path in root.rglob("*.safetensors") if (path.parent / "config.json").is_file()}
    if len(weights) != 1:
        listed = sorted(path.relative_to(root).as_posix() for path in (weights or root.rglob("*")) if path != root)
        raise PressError(
            f"model.source: {source}: expected one folder with config.json and safetensors, found {len(weights)}. "
            f"There are: {', '.join(listed[:20]) or 'no files'}."
        )
    (home,) = weights
    tokenizers = sorted(path.parent for path in root.rglob("tokenizer_config.json") if path.parent != home)
    sources = [(home, patterns), *((folder, patterns) for folder in tokenizers)]
    above = [folder for folder in home.parents if folder.is_relative_to(root)]
    sources += [(folder, ("LICENSE*", "NOTICE*", "README.md")) for folder in above]
    return [path for folder, wanted in sources for pattern in wanted for path in sorted(folder.glob(pattern))]
