"""Rows of a data set on the Hugging Face hub, at a commit, by the datasets library: streamed, nothing is kept here.

What a repository holds is read as data alone: no script of its own, no pickle.
"""

import re
from collections.abc import Iterator

from olivepress.core.errors import PressError
from olivepress.core.limits import TooMuch, each_apart
from olivepress.data.files import Found, bounded

HUB = re.compile(r"hf://datasets/(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
ROW_SECONDS = 900  # libraries ask the hub again, and again, before they give up
READ_BY = ("csv", "json", "parquet", "arrow")  # datasets' readers that we take; its "pandas" reads pickles


def read_hub(uri: str, split: str, subset: str | None) -> Iterator[Found]:
    """Every row of a split with its place; PressError for what cannot be had, or could be another one tomorrow.

    A process of its own reads them: damaged Parquet and Arrow files may have their library crash.
    """
    import datasets  # noqa: F401  once, and not in every process

    try:
        yield from each_apart(lambda: _read(uri, split, subset), ROW_SECONDS)
    except TooMuch as error:
        raise PressError(f"{uri}: reading it {error}. Check the network, then rerun; or name a local file.") from error


def _read(uri: str, split: str, subset: str | None) -> Iterator[Found]:
    match = HUB.fullmatch(uri)
    if not match:
        raise PressError(f"{uri}: expected hf://datasets/owner/name@commit.")
    import httpx2  # what huggingface_hub speaks HTTP with
    from datasets import disable_progress_bars, load_dataset_builder
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, revision = match["name"], match["revision"]
    number = 0
    try:
        info = HfApi().dataset_info(name, revision=revision, timeout=30)
        if not COMMIT.fullmatch(revision):
            raise PressError(
                f"{uri}: {revision!r} can move, so the same params could give other rows. It is at commit {info.sha} "
                f"now: write hf://datasets/{name}@{info.sha}"
            )
        script = f"{name.rpartition('/')[2]}.py"
        if any(file.rfilename == script for file in info.siblings or []):
            raise PressError(
                f"{uri}: is made by a script of its own, {script}. Such scripts are not run: give its files."
            )
        disable_progress_bars()
        builder = load_dataset_builder(name, subset, revision=info.sha)
        reader = type(builder).__module__.split(".")[-1]
        if not type(builder).__module__.startswith("datasets.packaged_modules.") or reader not in READ_BY:
            raise PressError(
                f"{uri}: holds no {', '.join(READ_BY)} files, but {reader}: not read. Give files of these."
            )
        splits = builder.config.data_files or {}
        if split not in splits:
            raise PressError(f"{uri}: no split {split!r}. There are {', '.join(map(str, splits))}: name one by split.")
        for row in builder.as_streaming_dataset(split):
            number += 1
            yield f"{uri}: row {number}", bounded(row)
    except GatedRepoError as error:
        raise PressError(f"{uri}: gated. Accept its terms on its page, then set HF_TOKEN to a token for it.") from error
    except RevisionNotFoundError as error:
        raise PressError(f"{uri}: the repository has no revision {revision!r}.") from error
    except DataFilesNotFoundError as error:
        raise PressError(f"{uri}: no file of rows in it ({', '.join(READ_BY)}). Choose another data set.") from error
    except (RepositoryNotFoundError, DatasetNotFoundError) as error:
        raise PressError(
            f"{uri}: no such data set, or a private one. Check the name; set HF_TOKEN for a private one."
        ) from error
    except (OfflineModeIsEnabled, HfHubHTTPError, httpx2.HTTPError, ConnectionError, OSError) as error:
        raise PressError(
            f"{uri}: the hub cannot be reached, after row {number} ({_first(error)}). Check the network and "
            "HF_HUB_OFFLINE, then rerun; or name a local file."
        ) from error
    except (ValueError, RuntimeError, TypeError) as error:  # datasets' own, among them its DatasetGenerationError
        raise PressError(f"{uri}: datasets cannot read it, after row {number}: {_first(error)}") from error


def _first(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
