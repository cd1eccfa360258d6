"""Hashes that are remembered: what counts, what does not, and that the cache can only help."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from olivepress.runtime.hash_cache import SETTLED_NS, HashCache, cache_folder

OLD, NEW = b"old bytes", b"new bytes"
FALSE = "f" * 64  # a digest that tells that it comes from the cache


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with one file, changed long enough ago, and a cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "release").mkdir()
    (tmp_path / "release/file").write_bytes(OLD)
    time.sleep(SETTLED_NS / 1e9)
    return tmp_path / "release"


def hashed(folder: Path, *, trust: bool = True) -> str:
    cache = HashCache(folder, trust=trust)
    found = cache.sha256("file")
    cache.save()
    return found


def cached(folder: Path) -> Path:
    (path,) = (folder.parent / "cache/olivepress/hashes").iterdir()
    return path


def falsify(folder: Path) -> None:
    """Make the cache say FALSE of the file as it is."""
    assert hashed(folder) == digest(OLD)
    path = cached(folder)
    path.write_text(path.read_text().replace(digest(OLD), FALSE))


def test_what_has_not_changed_is_not_hashed_again(folder):
    falsify(folder)
    assert hashed(folder) == FALSE
    assert hashed(folder, trust=False) == digest(OLD)
    assert hashed(folder) == digest(OLD)  # what was found without the cache is kept in it


def overwritten(file: Path) -> None:
    """The same size, inode and modification time: only the change time tells."""
    before = file.stat()
    with file.open("r+b") as handle:
        handle.write(NEW)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns


def replaced(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(NEW)
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize("change", [overwritten, replaced, lambda file: file.write_bytes(NEW + b"!")])
def test_what_has_changed_is_hashed_again(folder, change):
    falsify(folder)
    change(folder / "file")
    assert hashed(folder) == digest((folder / "file").read_bytes())


def test_what_changed_a_moment_ago_is_not_remembered(folder):
    file = folder / "file"
    file.write_bytes(NEW)
    cache = HashCache(folder)
    assert cache.sha256("file") == digest(NEW)
    cache.save()
    assert not (folder.parent / "cache").exists()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"file": 1}', '{"file": []}', '{"file": [9, 1, 1, 1, 1, 5]}', "\0" * 100, "[" * 100_000],
)
def test_a_broken_cache_is_none(folder, content):
    hashed(folder)
    cached(folder).write_text(content)
    assert hashed(folder) == digest(OLD)
    assert json.loads(cached(folder).read_text())["file"][-1] == digest(OLD)


def test_a_cache_that_others_may_write_is_none(folder):
    falsify(folder)
    cached(folder).chmod(0o666)
    assert hashed(folder) == digest(OLD)
    falsify(folder)
    cached(folder).parent.chmod(0o777)
    assert hashed(folder) == digest(OLD)


def test_a_cache_that_cannot_be_written_is_no_error(folder):
    (folder.parent / "cache").write_text("a file where the folder should be")
    assert hashed(folder) == digest(OLD)
    assert hashed(folder) == digest(OLD)


def test_a_folder_in_place_of_the_cache_is_no_error(folder):
    hashed(folder)
    path = cached(folder)
    path.unlink()
    (path / "full").mkdir(parents=True)
    assert hashed(folder) == digest(OLD)
    assert cached(folder) == path, "nothing is left beside it"


def test_the_cache_is_the_users_alone(folder):
    hashed(folder)
    assert cached(folder).stat().st_mode & 0o777 == 0o600
    assert cached(folder).parent.stat().st_mode & 0o777 == 0o700


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        assert cache_folder() == tmp_path / ".cache/olivepress"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x/olivepress"
