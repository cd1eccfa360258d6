"""DVCLive's files while an adapter is trained, as DVC reads them; what comes of the training is the same without."""

import json
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prepared_rows import TINY, settings, travel

from olivepress.finetune.live import Curves
from olivepress.finetune.lora import finetune

ROOT = Path(__file__).parents[2]
METRICS, PLOTS = Path("results/live/metrics/travel.json"), Path("results/live/plots/travel")


def dvc(*words: str) -> str:
    return subprocess.run(["dvc", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project with what dvc.yaml says of these files."""
    monkeypatch.chdir(tmp_path)
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    shutil.copytree(ROOT / ".dvc/plots", ".dvc/plots")
    ours = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    plots = [plot for plot in ours["plots"] if "results/live/plots" in plot]
    metrics = [path for path in ours["metrics"] if path.startswith("results/live")]
    Path("dvc.yaml").write_text(yaml.safe_dump({"metrics": metrics, "plots": plots}))
    assert len(metrics) == len(plots) == 1
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "A project"], check=True)
    return tmp_path


def test_dvc_reads_the_losses_of_a_training_and_its_adapter_is_the_same_without(project):
    rows = travel(16)
    seen = []
    curves = Curves(METRICS, PLOTS)

    def watch(entry):
        curves(entry)
        seen.append(json.loads(dvc("metrics", "show", "--json"))[""]["data"])

    watched = finetune(TINY, rows[:12], rows[12:], project / "watched", settings(steps=2, eval_steps=1), watch=watch)
    plain = finetune(TINY, rows[:12], rows[12:], project / "plain", settings(steps=2, eval_steps=1))
    assert watched.metrics() == plain.metrics()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (project / "watched" / name).read_bytes() == (project / "plain" / name).read_bytes()
    # while it trained, DVC saw where it was
    steps = [found[str(METRICS)]["data"]["step"] for found in seen]
    assert steps[0] == 0
    assert steps[-1] == 2
    assert steps == sorted(steps)
    last = seen[-1][str(METRICS)]["data"]
    assert last["held_out"]["loss"] == pytest.approx(watched.curve("eval_loss")[-1][1])
    assert last["training"]["loss"] == pytest.approx(watched.curve("loss")[-1][1])
    table = (PLOTS / "metrics/held_out/loss.tsv").read_text().splitlines()
    assert table[0] == "step\tloss"  # no time stamps
    assert [line.split("\t")[0] for line in table[1:]] == ["0", "1", "2"]
    shown = json.loads(dvc("exp", "show", "--json"))[0]["data"]["metrics"]
    assert list(shown) == [str(METRICS)]
    assert "error" not in shown[str(METRICS)]
    # it made no experiment, and nothing beside its files
    assert sorted(path.name for path in project.iterdir() if path.name[0] != ".") == [
        "dvc.yaml",
        "plain",
        "results",
        "watched",
    ]
    dvc("plots", "show")
    page = Path("dvc_plots/index.html").read_text(encoding="utf-8")
    assert "results/live/plots/travel/metrics/held_out/loss.tsv" in page


def test_a_new_training_begins_anew(project):
    for loss in (3.0, 2.0):
        # as the processes of a parallel training get it
        curves = pickle.loads(pickle.dumps(Curves(METRICS, PLOTS)))
        curves({"loss": loss, "step": 1})
        curves({"loss": loss - 0.5, "learning_rate": 0.01, "step": 2})
        curves({"train_runtime": 3.0, "step": 2})
    assert (PLOTS / "metrics/training/loss.tsv").read_text() == "step\tloss\n1\t2.0\n2\t1.5\n"
    assert json.loads(METRICS.read_text()) == {"training": {"loss": 1.5, "learning_rate": 0.01}, "step": 2}


def test_before_the_first_commit_training_goes_on_without(project, capfd):
    shutil.rmtree(project / ".git")
    subprocess.run(["git", "init", "-q"], check=True)
    curves = Curves(METRICS, PLOTS)
    for step in (1, 2):
        curves({"loss": 3.0, "step": step})
    assert not METRICS.exists()
    assert capfd.readouterr().err.count("commit first") == 1
