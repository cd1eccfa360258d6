"""SHA-256 of a folder's files, remembered between runs in the user's cache folder: gigabytes are hashed once.

A digest counts as long as the file's size, times, inode and device are what they were. That tells what changed by
mistake, by a copy or by a download; whoever may write the user's cache can write the user's programs, too. The cache
is a help and nothing more: one that is missing, broken, somebody else's or cannot be written costs the time to hash.
"""

import hashlib
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from olivepress.core.json_document import BadDocument, read_document

LARGEST = 4 * 2**20
DIGEST = 64
# A file that changed this short a time before it was hashed may change again without another time stamp.
SETTLED_NS = 100_000_000

Stamp = list[int]


def cache_folder() -> Path | None:
    """$XDG_CACHE_HOME/olivepress, or ~/.cache/olivepress; None where there is no home."""
    place = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(place) if Path(place).is_absolute() else Path.home() / ".cache") / "olivepress"
    except RuntimeError:
        return None


class HashCache:
    """Digests of the files in ``folder``. With ``trust`` off every file is hashed, and what was found is kept."""

    def __init__(self, folder: Path, *, trust: bool = True) -> None:
        self._folder = folder.resolve()
        where, name = cache_folder(), hashlib.sha256(os.fsencode(self._folder)).hexdigest()
        self._path = where / "hashes" / f"{name}.json" if where else None
        self._known = self._read() if trust else {}
        self._found: dict[str, list[int | str]] = {}

    def sha256(self, name: str) -> str:
        """The SHA-256 of the file ``name``, a path relative to the folder. OSError if it cannot be read."""
        with (self._folder / name).open("rb") as file:
            before = _stamp(os.fstat(file.fileno()))
            *stamp, digest = self._known.get(name, [""])
            if stamp == before:
                self._found[name] = [*before, digest]
                return str(digest)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
        if _stamp(after) == before and time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) > SETTLED_NS:
            self._found[name] = [*before, digest]
        return digest

    def save(self) -> None:
        """Keep what was found, if the cache can be written; another process sees the whole of it or nothing."""
        if not self._path or self._found == self._known:
            return
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # of mode 600
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False, encoding="utf-8") as scratch:
                json.dump(self._found, scratch)
            try:
                Path(scratch.name).replace(self._path)
            except OSError:
                Path(scratch.name).unlink()

    def _read(self) -> dict[str, list[int | str]]:
        """What the cache has of the folder; nothing if others own it or may write it, or if it is not what we write."""
        with suppress(OSError, BadDocument):
            if self._path and _mine(self._path):
                return {name: entry for name, entry in read_document(self._path, LARGEST).items() if _entry(entry)}
        return {}


def _stamp(status: os.stat_result) -> Stamp:
    """What changes with a file. Its change time, unlike its modification time, cannot be set to an earlier one."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def _mine(path: Path) -> bool:
    """Whether file and folder are this user's, and nobody else may write them. OSError if there is none."""
    if not hasattr(os, "getuid"):  # Windows, where a user's cache folder is the user's alone
        return path.is_file()
    return all(one.st_uid == os.getuid() and not one.st_mode & 0o022 for one in (path.stat(), path.parent.stat()))


def _entry(value: object) -> bool:
    """Whether this is a stamp and a digest."""
    return (
        isinstance(value, list)
        and len(value) == 6
        and all(type(number) is int for number in value[:-1])
        and isinstance(value[-1], str)
        and len(value[-1]) == DIGEST
    )
