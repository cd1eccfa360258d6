"""The files of a model's folder, and the names in a listing, before anything reads them."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from olivepress.core.documents import DOCUMENTS
from olivepress.core.errors import PressError
from olivepress.core.git import refuse_pointer

# Bytes. The largest tokenizer.json of a known model has 35 MB.
LARGEST = 128 * 2**20
LARGEST_DOCUMENT = 4 * 2**20
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
# Would be read as a pattern by what downloads, or as a folder or a drive by other systems.
SPECIAL = set('*?[]\\:"<>|')


def check_files(folder: Path, files: Iterable[Path]) -> None:
    """PressError for the first of ``files`` that is not a readable file of ``folder`` itself, or not a model's."""
    files = list(files)
    check_names(str(folder), [path.name for path in files])
    for path in files:
        _check_file(path, folder)
        if path.name in ADAPTER:
            raise PressError(
                f"{path}: the folder has an adapter, over which libraries load another base than this one, from "
                "wherever it names. Take the model without it, or merge the two."
            )


def check_names(where: str, names: Iterable[str]) -> None:
    """PressError for a name that leads out of the folder, or that systems do not agree about."""
    seen: dict[str, str] = {}
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise PressError(f"{where}: names a file outside of its folder, {name!r}: not taken.")
        if not name.isprintable() or SPECIAL & set(name):
            raise PressError(f"{where}: has a file by the name {name!r}, which systems read differently: rename it.")
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise PressError(
                f"{where}: has {other!r} and {name!r}, which are one file to some systems: remove one of the two."
            )


def _check_file(path: Path, folder: Path) -> None:
    """PressError unless ``path`` is a readable file that lies in ``folder`` itself, not behind a link out of it."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:
        raise PressError(f"{path}: a link that leads to itself. Put the file itself there.") from error
    if not real.is_relative_to(folder.resolve()):
        raise PressError(
            f"{path}: a link to {real}, outside of the model's folder. Put the file itself there "
            "(cp --dereference), or name the model as hf://owner/name@commit."
        )
    if not path.is_file():
        raise PressError(f"{path}: not a file. A model's folder holds files under such a name: remove or rename it.")
    if not os.access(path, os.R_OK):
        raise PressError(f"{path}: cannot be read. Give yourself the right to (chmod +r).")
    refuse_pointer(path)
    most = LARGEST_DOCUMENT if any(path.match(pattern) for pattern in DOCUMENTS) else LARGEST
    size = path.stat().st_size
    if path.suffix != ".safetensors" and size > most:
        raise PressError(f"{path}: {size:,} bytes, expected at most {most:,} under such a name. Remove it.")
