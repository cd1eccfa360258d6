"""The last release's figures, read from its tag: a real repository, GTO's own tags, and the gate that reads them."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from test_gates import LOSS, Results, run

from olivepress.core.gates import read_measured
from olivepress.release.baseline import BASELINE, note_release


class Project:
    """A git repository with params.yaml and results/ of a run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.results = Results(root / "results")
        self.results.released = None
        root.mkdir()
        params = {"register": {"name": "guide"}, "targets": {"cpu": {}}, "shipped": {"adapter": ["travel"]}}
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "Test")
        self.git("config", "user.email", "test@example.com")

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.root, check=True, capture_output=True)

    def release(self, version: str) -> None:
        """Commit the results as they are, and tag them as a release."""
        self.results.write()
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", version)
        self.git("tag", "-a", f"guide@v{version}", "-m", version)

    def baseline(self) -> dict:
        return json.loads((self.root / BASELINE).read_text())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def test_the_newest_release_is_remembered_whatever_has_changed_since(project):
    project.release("0.9.0")
    project.results.bytes = 950
    project.release("0.10.0")
    project.results.bytes = 9999
    project.results.own["held_out", "loss", "finetuned_onnx", None] = 9.0
    project.results.write()
    assert note_release(project.root) == "0.10.0"
    found = project.baseline()
    assert found["version"] == "0.10.0" and found["targets"]["cpu"]["bytes"] == 1050
    assert {name: loss["value"] for name, loss in found["targets"]["cpu"]["loss"].items()} == LOSS
    measured = read_measured(project.root / "results", "cpu", ["travel"])
    assert measured.release["version"] == "0.10.0", "the gate sees it"


def test_a_model_that_is_worse_than_the_last_release_is_stopped(project, monkeypatch):
    project.release("0.1.0")
    note_release(project.root)
    project.results.own["held_out", "loss", "finetuned_onnx", None] = 2.3
    project.results.bytes = 1050
    done, written = run(project.results)
    assert done.exit_code == 1 and written is None
    assert "travel: loss since 0.1.0 is 0.3 (0.2434 to 0.3566), above max_loss_increase_since_release" in done.output
    assert "bytes relative to 0.1.0 is 1.15, above max_size_ratio_to_release 1.1" in done.output


def test_where_git_knows_no_release_the_file_stays_as_it_is(project):
    """As in a shallow clone, which has no tags, or in a job without git."""
    project.results.write()
    assert note_release(project.root) is None and not (project.root / BASELINE).exists()
    kept = {"version": "0.1.0", "targets": {}}
    (project.root / BASELINE).write_text(json.dumps(kept))
    assert note_release(project.root) is None
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "a run")
    project.git("tag", "other@v1.0.0")
    assert note_release(project.root) is None, "another model's release"
    subprocess.run(["rm", "-rf", ".git"], cwd=project.root, check=True)
    assert note_release(project.root) is None and project.baseline() == kept


def test_a_file_that_says_it_already_is_not_touched(project):
    project.release("0.1.0")
    note_release(project.root)
    before = (project.root / BASELINE).stat().st_mtime_ns
    assert note_release(project.root) == "0.1.0"
    assert (project.root / BASELINE).stat().st_mtime_ns == before


def test_a_release_without_these_figures_holds_nothing_to_them(project):
    project.results.write()
    (project.root / "results/intervals/cpu/travel.json").unlink()
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "an old run")
    project.git("tag", "-a", "guide@v0.1.0", "-m", "old")
    assert note_release(project.root) == "0.1.0"
    assert project.baseline() == {"version": "0.1.0", "targets": {}}
    done, _ = run(project.results)
    assert done.exit_code == 0, done.output
