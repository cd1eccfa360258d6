"""What a disk has changed in DVC's cache is found before it is taken for an output."""

import hashlib
import json

import pytest
import yaml

from olivepress.core.cached import broken_objects


@pytest.fixture
def project(tmp_path):
    """A project whose lock has a file and a folder, both in the cache and gone from the workspace."""

    def put(content: bytes, suffix: str = "") -> str:
        name = hashlib.md5(content).hexdigest() + suffix
        path = tmp_path / "cache/files/md5" / name[:2] / name[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return name

    listing = json.dumps([{"md5": put(b"inside"), "relpath": "a"}]).encode()
    outs = [{"path": "file", "md5": put(b"alone")}, {"path": "folder", "md5": put(listing, ".dir")}]
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": {"one": {"cmd": "x", "outs": outs}, "two": {}}}))
    return tmp_path


def broken(project) -> list[bytes]:
    return [path.read_bytes() for path in broken_objects(project, project / "cache")]


def change(project, before: bytes, after: bytes) -> None:
    (path,) = [path for path in (project / "cache").rglob("*") if path.is_file() and path.read_bytes() == before]
    path.write_bytes(after)


def test_sound_objects_are_left_alone(project):
    assert broken(project) == []
    assert list(broken_objects(project / "cache", project / "cache")) == [], "no lock, no objects"


@pytest.mark.parametrize(("before", "after"), [(b"alone", b"alon"), (b"alone", b"Alone"), (b"inside", b"insidE")])
def test_a_changed_byte_and_a_cut_are_found(project, before, after):
    change(project, before, after)
    assert broken(project) == [after]


def test_what_lies_in_the_workspace_is_not_read(project):
    change(project, b"alone", b"Alone")
    (project / "file").write_text("there")
    assert broken(project) == []
