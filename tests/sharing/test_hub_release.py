"""A release goes to a hub as a version and comes back as the same bytes; a version that is there never changes."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from writable_hub import TOKEN, WritableHub

import olivepress
from olivepress.release.verify import artifact_files

REPOSITORY = "press/ft-for-travel"


@pytest.fixture
def hub() -> Iterator[WritableHub]:
    server = WritableHub()
    yield server
    server.close()


@pytest.fixture
def release(finished, tmp_path: Path) -> Path:
    """The released folder of the finished run, to be changed: one folder a target."""
    folder = tmp_path / "release"
    shutil.copytree(finished.folder / "models/onnx", folder, symlinks=True)
    return folder


@pytest.fixture
def olive(hub: WritableHub, tmp_path: Path):
    """Run `olivepress` as a user of ``hub`` does, in an empty folder."""

    def run(*words: str | Path, token: str | None = TOKEN) -> subprocess.CompletedProcess:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        if token:
            environment["HF_TOKEN"] = token
        command = ["olivepress", *map(str, words)]
        (tmp_path / "empty").mkdir(exist_ok=True)
        return subprocess.run(
            command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_a_version_goes_to_the_hub_and_comes_back(hub, olive, release, tmp_path):
    done = olive("hub", "push", release, REPOSITORY)
    assert done.returncode == 0, done.stderr
    there = hub.repositories[REPOSITORY]
    assert there.private
    assert list(there.tags) == ["v0.1.0"]
    _, files = there.find("v0.1.0")
    assert set(artifact_files(release)) == set(files) - {".gitattributes", "README.md"}
    assert b"model-index" in files["README.md"]
    assert "cpu-int4/README.md" in files["README.md"].decode()
    assert TOKEN not in done.stdout + done.stderr

    back = tmp_path / "back"
    done = olive("hub", "pull", REPOSITORY, "0.1.0", back)
    assert done.returncode == 0, done.stderr
    assert artifact_files(back) == artifact_files(release)
    assert sorted(path.name for path in back.iterdir()) == ["cpu-int4"]
    model = olivepress.load(back, verify="full")
    assert model.answer("what is the best thing to see in chicago", "travel", max_new_tokens=4).tokens


def test_one_target_is_its_own_release(hub, olive, release, tmp_path):
    assert olive("hub", "push", release / "cpu-int4", REPOSITORY, "--public").returncode == 0
    there = hub.repositories[REPOSITORY]
    assert not there.private
    assert there.find("main")[1]["README.md"] == (release / "cpu-int4/README.md").read_bytes()
    done = olive("hub", "pull", REPOSITORY, "v0.1.0", tmp_path / "back", token=None)
    assert done.returncode == 0, done.stderr
    assert artifact_files(tmp_path / "back") == artifact_files(release / "cpu-int4")


def test_a_version_never_changes(hub, olive, release):
    assert olive("hub", "push", release, REPOSITORY).returncode == 0
    again = olive("hub", "push", release, REPOSITORY)
    assert "is there already, with these bytes" in again.stdout
    before = hub.repositories[REPOSITORY].find("v0.1.0")
    card = release / "cpu-int4/README.md"
    card.write_text(card.read_text() + "\nmore\n")
    done = olive("hub", "push", release, REPOSITORY)
    assert done.returncode == 1
    assert "has v0.1.0 already, with another cpu-int4/README.md" in done.stderr
    assert "Traceback" not in done.stderr
    assert hub.repositories[REPOSITORY].find("v0.1.0") == before
    assert len(hub.repositories[REPOSITORY].commits) == 2


def test_the_next_version_holds_its_own_files_alone(hub, olive, release):
    assert olive("hub", "push", release, REPOSITORY).returncode == 0
    target = release / "cpu-int4"
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["version"] = "0.2.0"
    manifest["adapters"].remove("cooking")
    del manifest["files"]["adapters/cooking.onnx_adapter"]
    (target / "adapters/cooking.onnx_adapter").unlink()
    (target / "manifest.json").write_text(json.dumps(manifest))
    done = olive("hub", "push", release, REPOSITORY)
    assert done.returncode == 0, done.stderr
    there = hub.repositories[REPOSITORY]
    assert "cpu-int4/adapters/cooking.onnx_adapter" not in there.find("v0.2.0")[1]
    assert "cpu-int4/adapters/cooking.onnx_adapter" in there.find("v0.1.0")[1]


def test_a_push_that_ended_before_its_tag_is_finished_by_the_next(hub, olive, release):
    assert olive("hub", "push", release, REPOSITORY).returncode == 0
    there = hub.repositories[REPOSITORY]
    there.tags.clear()
    assert olive("hub", "push", release, REPOSITORY).returncode == 0
    assert there.tags == {"v0.1.0": there.commits[-1][0]}
    assert len(there.commits) == 2


def test_what_the_hub_has_otherwise_gets_no_tag(hub, olive, release):
    hub.lose = {"cpu-int4/model/genai_config.json"}
    done = olive("hub", "push", release, REPOSITORY)
    assert done.returncode == 1
    assert "cpu-int4/model/genai_config.json" in done.stderr
    assert hub.repositories[REPOSITORY].tags == {}


def test_a_damaged_or_mixed_release_is_not_sent(hub, olive, release):
    (release / "note.txt").write_text("mine")
    done = olive("hub", "push", release, REPOSITORY)
    assert "note.txt belongs to no target" in done.stderr
    (release / "note.txt").unlink()
    with (release / "cpu-int4/model/tokenizer.json").open("a") as file:
        file.write(" ")
    done = olive("hub", "push", release, REPOSITORY)
    assert done.returncode == 1
    assert "tokenizer.json" in done.stderr
    assert hub.requests == []


def test_pull_takes_nothing_else(hub, olive, release, tmp_path):
    assert olive("hub", "push", release, REPOSITORY, "--public").returncode == 0
    there = hub.repositories[REPOSITORY]
    oid, files = there.find("v0.1.0")
    there.tags["v0.3.0"] = oid
    there.tags["v0.4.0"] = there.commit({**files, "cpu-int4/model/extra.so": b"x"})
    there.tags["v0.5.0"] = there.commit({**files, "../../up.json": b"{}"})
    for version, said in (
        ("0.3.0", "holds ft-for-travel 0.1.0"),
        ("0.4.0", "extra.so"),
        ("0.5.0", "outside of its folder"),
        ("9.0.0", "has no v9.0.0"),
    ):
        done = olive("hub", "pull", REPOSITORY, version, tmp_path / "back")
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "back").exists()
    assert not (tmp_path / "up.json").exists()


def test_who_may_not_is_told_what_to_do(hub, olive, release, tmp_path):
    done = olive("hub", "push", release, REPOSITORY, token=None)
    assert done.returncode == 1
    assert "HF_TOKEN" in done.stderr
    done = olive("hub", "push", release, REPOSITORY, token="hf_wrong")
    assert done.returncode == 1
    assert "HF_TOKEN" in done.stderr
    assert "hf_wrong" not in done.stderr
    assert hub.repositories == {}
    done = olive("hub", "pull", REPOSITORY, "0.1.0", tmp_path / "back")
    assert "no such repository" in done.stderr
    hub.close()
    done = olive("hub", "pull", REPOSITORY, "0.1.0", tmp_path / "back")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
