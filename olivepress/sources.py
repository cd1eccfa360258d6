"""Where a base model comes from: a folder, the Hugging Face hub at a commit, or an Azure ML registry or workspace."""

import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

import click

from olivepress import azure_models, checkpoint
from olivepress.errors import PressError
from olivepress.outputs import remove

# What a checkpoint needs to run, and nothing that can run by itself: no pickles, no *.py.
FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "*.model",
    "merges.txt",
    "vocab.txt",
    "LICENSE*",
    "NOTICE*",
    "README.md",
)
HUB = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
COMMIT = re.compile(r"[0-9a-f]{40}")
# Lies beside a download while it is under way, and says of what.
UNDER_WAY = ".source"


def is_remote(source: str) -> bool:
    """Whether ``source`` is not a folder on this machine."""
    return "://" in source or azure_models.is_model_id(source)


def bring(source: str, folder: Path, *, trust_remote_code: bool) -> str:
    """Put the checkpoint that ``source`` names into ``folder``, check it, and return where it came from.

    The returned text names the exact revision (a commit for the hub). Raises PressError for a source that is
    malformed, unreachable, unsafe or incomplete.
    """
    patterns = (*FILES, "*.py") if trust_remote_code else FILES
    if source.startswith("hf://"):
        came_from = _from_hub(source, folder, patterns)
    elif azure_models.is_model_id(source):
        azure_models.download(source, folder, patterns)
        came_from = source
    elif "://" in source:
        raise PressError(
            f"model.source: {source}: unknown scheme. Expected a folder, hf://owner/name@revision or azureml://…"
        )
    else:
        came_from = _from_folder(Path(source), folder, patterns)
    checkpoint.check(folder)
    return came_from


def _from_folder(source: Path, folder: Path, patterns: tuple[str, ...]) -> str:
    if not source.is_dir():
        raise PressError(f"model.source: {source}: no such folder. Expected a Hugging Face checkpoint folder.")
    checkpoint.check(source)
    folder.mkdir(parents=True)
    for path in sorted({path for pattern in patterns for path in source.glob(pattern)}):
        shutil.copyfile(path, folder / path.name)
    return source.as_posix()


def resume_only(source: str, folder: Path) -> None:
    """Keep what a broken download left in ``folder`` if it was of ``source``; start afresh if of anything else."""
    note = folder / UNDER_WAY
    if not note.is_file() or note.read_text(encoding="utf-8") != source:
        remove(folder)
        folder.mkdir(parents=True)
        note.write_text(source, encoding="utf-8")


def _from_hub(source: str, folder: Path, patterns: tuple[str, ...]) -> str:
    """Download with huggingface_hub: a progress bar a file, and files already complete are not fetched again."""
    match = HUB.fullmatch(source)
    if not match:
        raise PressError(f"model.source: {source}: expected hf://owner/name@revision (a commit, tag or branch).")
    import httpx2  # what huggingface_hub speaks HTTP with
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
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
        files = {s.rfilename: s.size for s in siblings if any(fnmatch(s.rfilename, pattern) for pattern in patterns)}
        if not any(file.endswith(".safetensors") for file in files):
            raise PressError(
                f"model.source: {source}: this revision has no safetensors ({len(siblings)} files). "
                "Pickled weights are not loaded: choose a revision or a model that has safetensors."
            )
        click.echo(f"{name} at commit {info.sha}", err=True)
        resume_only(source, folder)
        snapshot_download(name, revision=info.sha, local_dir=folder, allow_patterns=list(files))
        # where the hub fails half-way, huggingface_hub may return a folder that is there already, complete or not
        for file, size in files.items():
            found = (folder / file).stat().st_size if (folder / file).is_file() else None
            if found is None or size not in (None, found):
                raise OSError(f"{file}: got {found or 0} of {size} bytes")
    except GatedRepoError as error:
        raise PressError(
            f"model.source: {source}: gated. Accept its terms on its page, then set HF_TOKEN to a token for it."
        ) from error
    except RevisionNotFoundError as error:
        raise PressError(f"model.source: {source}: the repository has no revision {revision!r}.") from error
    except RepositoryNotFoundError as error:
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
