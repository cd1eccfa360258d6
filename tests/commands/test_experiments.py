"""Experiments in a table that a screen holds."""

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from olivepress.tools.experiments import Experiment, main, table

STAGE = """
import json, pathlib, yaml
params = yaml.safe_load(open("params.yaml"))
place = pathlib.Path("results/quality/gate/cpu-int4.json")
place.parent.mkdir(parents=True, exist_ok=True)
place.write_text(json.dumps({"finetuning_gain": params["finetune"]["steps"] / 10, "same_top_token": 0.98}))
pathlib.Path("results/quality/other.json").write_text(json.dumps({"noise": 12345}))
"""
PIPELINE = """
stages:
  gate:
    cmd: python gate.py
    deps: [gate.py]
    params: [finetune]
    metrics:
      - results/quality/gate/cpu-int4.json: {cache: false}
      - results/quality/other.json: {cache: false}
"""


@pytest.fixture
def project(empty_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty DVC project, and the working folder."""
    shutil.copytree(empty_project, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def test_experiments_by_what_differs_and_the_gates_metrics(project: None, tmp_path: Path) -> None:
    (tmp_path / "gate.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "params.yaml").write_text("finetune:\n  steps: 10\n  seed: 4711\n")
    for command in (
        "dvc repro -q",
        "git add --all",
        "git commit -qm one",
        "dvc exp run -q --name short -S finetune.steps=5",
    ):
        subprocess.run(command.split(), check=True, capture_output=True)
    done = CliRunner().invoke(main)
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.output.splitlines()]
    assert rows[-3:] == [
        ["workspace", "5", "0.5", "0.98"],
        ["main", "10", "1", "0.98"],
        ["-", "short", "5", "0.5", "0.98"],
    ]
    assert "4711" not in done.output
    assert "12345" not in done.output


def test_a_table_of_all_thresholds_fits_120_columns() -> None:
    names = ("quantization_loss_increase", "finetuning_gain", "export_loss_increase", "relative_error")
    metrics = {("cpu-int4", name): 0.123456 for name in (*names, "same_top_token")}
    found = [
        Experiment("workspace", "", {"finetune.learning_rate": rate, "model.source": "data/tiny-phi3"}, metrics)
        for rate in (0.01, 0.001)
    ]
    text = table(found)
    assert max(map(len, text.splitlines())) <= 120
    assert "0.1235" in text
    assert "learning_rate" in text
    assert "tiny-phi3" not in text


def test_without_a_run_it_says_what_to_do(project: None) -> None:
    subprocess.run(["git", "commit", "-qm", "one"], check=True)
    done = CliRunner().invoke(main)
    assert done.exit_code == 1
    assert "no experiment has passed its gate" in done.output
