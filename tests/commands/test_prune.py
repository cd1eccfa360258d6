"""What is left of an adapter that is gone: removed from dvc.lock and the workspace; what anybody else has stays."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from olivepress.core.errors import PressError
from olivepress.core.prune import prune
from olivepress.register.manifest import refuse_strays
from olivepress.results.stale import stale_stages
from olivepress.tools import metrics
from olivepress.tools import prune as command

DVC_YAML = """
stages:
  train:
    foreach: ${adapters}
    do:
      cmd: >-
        mkdir -p models/one results/quality/train results/cost/train && cp ${item} models/one/${key}
        && echo '{"loss":1}' > results/quality/train/${key}.json
        && echo '{"seconds":1}' > results/cost/train/${key}.json
        && mkdir -p results/live/metrics results/live/plots/${key}
        && echo '{"step":1}' > results/live/metrics/${key}.json;
        : --cost results/cost/train/${key}.json
        --live-metrics results/live/metrics/${key}.json --live-plots results/live/plots/${key}
      deps: ["${item}"]
      outs: ["models/one/${key}"]
      metrics:
        - results/quality/train/${key}.json: {cache: false}
  last:
    cmd: ls models/one > models/list
    deps: [models/one]
    outs: [models/list]
metrics: [results/cost]
"""


@pytest.fixture(scope="session")
def run_once(once, empty_project) -> Path:
    """A project with two adapters, run once and committed. Copy it, do not change it."""

    def make(folder: Path) -> None:
        shutil.copytree(empty_project, folder, dirs_exist_ok=True)
        with contextlib.chdir(folder):
            for name in ("travel", "cooking"):
                Path(name).write_text(name)
            Path("dvc.yaml").write_text(DVC_YAML)
            Path(".gitignore").write_text("/models/\n/results/cost/\n/results/live/\n")
            adapters(["travel", "cooking"])
            for line in ("dvc repro -q", "git add -A", "git commit -qm run"):
                run(line)

    return once("two-adapters", make)


@pytest.fixture
def project(run_once, tmp_path, monkeypatch) -> Path:
    """A copy of it, and the working folder."""
    shutil.copytree(run_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str) -> str:
    done = subprocess.run(line.split(), capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def adapters(names: list[str]) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"adapters": {name: name for name in names}}))


def locked() -> set[str]:
    return set(yaml.safe_load(Path("dvc.lock").read_text())["stages"])


def test_nothing_to_remove(project):
    before = Path("dvc.lock").read_text()
    assert prune(project).stages == ()
    assert Path("dvc.lock").read_text() == before


def test_an_adapter_that_is_gone_leaves_nothing(project):
    Path("models/one/mine").write_text("not DVC's")
    Path("logs").mkdir()
    for name in ("travel", "cooking"):
        Path(f"logs/train@{name}.log").write_text("")
    adapters(["travel"])
    done = CliRunner().invoke(command.main, catch_exceptions=False)
    assert done.output.splitlines() == [
        "removed logs/train@cooking.log",
        "removed models/one/cooking",
        "removed results/cost/train/cooking.json",
        "removed results/live/metrics/cooking.json",
        "removed results/live/plots/cooking",
        "removed results/quality/train/cooking.json",
        "gone from dvc.lock: train@cooking",
    ]
    assert locked() == {"train@travel", "last"}
    assert {path.name for path in Path("models/one").iterdir()} == {"travel", "mine"}
    shown = json.loads(run("dvc metrics show --json"))[""]["data"]
    assert set(shown) == {"results/quality/train/travel.json", "results/cost/train/travel.json"}
    again = CliRunner().invoke(command.main, catch_exceptions=False)
    assert again.output == "nothing is left of other adapters and targets\n"


def test_after_it_a_clean_clone_is_up_to_date(project, tmp_path_factory):
    adapters(["travel"])
    prune(project)
    run("dvc repro -q")
    assert Path("models/list").read_text() == "travel\n"
    storage = tmp_path_factory.mktemp("storage")
    run(f"dvc remote add -d storage {storage}")
    run("dvc push -q")
    run("git add -A")
    run("git commit -qm without")
    clone = tmp_path_factory.mktemp("clone") / "clone"
    run(f"git clone -q . {clone}")
    os.chdir(clone)
    run("dvc pull -q")
    assert "up to date" in run("dvc status")
    assert not list(clone.rglob("*cooking.json"))


def test_a_whole_stage_that_is_gone_leaves_no_empty_folder(project):
    adapters(["travel", "cooking"])
    Path("dvc.yaml").write_text("stages: {}\n")
    assert set(prune(project).stages) == {"train@travel", "train@cooking", "last"}
    assert not Path("models/one").exists() and not Path("results/quality").exists()
    assert Path("models").is_dir() and Path("travel").is_file()


@pytest.mark.parametrize("path", ["travel", "../outside", "models/../travel", "models", "models/one", "/etc/hostname"])
def test_a_lock_that_names_anything_else_removes_none_of_it(project, path):
    outside = project.parent / "outside"
    outside.write_text("there")
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"]["gone"] = {"cmd": "true", "outs": [{"path": path, "hash": "md5", "md5": "0" * 32}]}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert prune(project).stages == ("gone",)
    assert prune(project).paths == ()
    assert outside.is_file() and Path("travel").is_file() and Path("models/one/travel").is_file()


def test_a_project_that_dvc_cannot_read_is_an_error(project):
    Path("params.yaml").write_text("adapters: 5\n")
    with pytest.raises(PressError, match="expected list/dictionary"):
        prune(project)


def test_a_file_of_no_adapter_is_refused_by_name(tmp_path):
    for name in ("travel.json", "skiing.json", ".gitignore"):
        (tmp_path / name).write_text("")
    refuse_strays(tmp_path, ["travel", "skiing"], ".json")
    with pytest.raises(PressError, match=r"skiing\.json: of no adapter in params\.yaml \(travel\)"):
        refuse_strays(tmp_path, ["travel"], ".json")


# --- whose results are of an earlier run


def test_after_a_run_nothing_is_stale(project):
    assert stale_stages(project) == set()


def test_new_data_makes_that_adapter_and_what_follows_stale(project):
    Path("cooking").write_text("other")
    assert stale_stages(project) == {"train@cooking", "last"}


def test_metrics_marks_what_is_of_an_earlier_run(project):
    shown = CliRunner().invoke(metrics.main, catch_exceptions=False).output
    assert "*" not in shown
    Path("cooking").write_text("other")
    lines = CliRunner().invoke(metrics.main, catch_exceptions=False).output.splitlines()
    assert lines[0] == "quality: train" and lines[1].split() == ["cooking*", "travel"]
    assert lines.count(f"* {metrics.EARLIER}") == 2  # quality and cost


def test_a_changed_command_or_param_makes_stale(project):
    Path("dvc.yaml").write_text(DVC_YAML.replace("ls models/one", "ls -1 models/one"))
    assert stale_stages(project) == {"last"}


def test_results_that_are_not_pulled_yet_are_not_stale(project, tmp_path_factory):
    clone = tmp_path_factory.mktemp("clone") / "clone"
    run(f"git clone -q . {clone}")
    assert stale_stages(clone) == set()
