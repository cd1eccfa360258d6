"""Outputs appear whole or not at all: written beside where they belong, then renamed into place."""

import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError
from olivepress.core.lacks import raise_handles

# A file in the place of a folder, a name that is too long, a link that leads to itself.
NO_PLACE = (errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def _beside(path: Path) -> Path:
    """A scratch name on the same file system, so that the rename is atomic and copies nothing."""
    return path.parent / f".{path.name}.partial"


def remove(path: Path) -> None:
    """Delete a file, a link or a folder tree; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_output(path: Path, *, keep_partial: bool = False) -> Iterator[Path]:
    """Yield a scratch path; rename it to ``path`` if the block succeeds, delete it if it fails.

    The block creates a file or a folder there. Whatever stood at ``path`` stays untouched until the new
    output is complete. ``keep_partial`` leaves the scratch folder after a failure and starts from it the
    next time, for downloads that can resume.
    """
    scratch = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.name or path.name == "..":
            raise PressError(f"{path}: no name that an output can have.")
        if not keep_partial:
            remove(scratch)
    except OSError as error:
        if error.errno not in NO_PLACE:
            raise
        raise PressError(f"{path}: cannot be written there ({error.strerror}). Choose another place.") from error
    try:
        yield scratch
    except BaseException:
        if not keep_partial:
            raise_handles()  # to remove a folder takes some, and their lack may be why the block fails
            remove(scratch)
        raise
    old = path.parent / f".{path.name}.old"
    remove(old)
    # A folder cannot be renamed over a full one, nor a file over a folder, so the old one steps aside first. A file
    # takes a file's place at once: who reads it meanwhile has one of the two.
    if (path.is_dir() and not path.is_symlink()) or (scratch.is_dir() and os.path.lexists(path)):
        path.rename(old)
    scratch.rename(path)
    remove(old)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with a final newline, whole or not at all."""
    with atomic_output(path) as scratch:
        scratch.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """What a stage wrote; PressError if it is not there or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PressError(f"{path}: not there. Run `dvc repro` for the stage that writes it.") from error
    except (ValueError, RecursionError) as error:
        raise PressError(f"{path}: broken JSON ({error}). Run `dvc repro` to write it again.") from error


@contextmanager
def as_written(path: Path) -> Iterator[None]:
    """Within the block, what is read of ``path`` is taken to be as a stage has written it.

    PressError where it is not: a list in the place of an object, say, or a key that is not there.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise PressError(
            f"{path}: not as its stage writes it ({type(error).__name__}: {error}). Run `dvc repro` to write it again."
        ) from error


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows under a header as CSV, whole or not at all."""
    with atomic_output(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sizes(folder: Path) -> dict[str, int]:
    """Relative POSIX path -> size in bytes of every file under ``folder``, sorted by path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.stat().st_size for p in files}
