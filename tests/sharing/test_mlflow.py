"""The last run on a real MLflow server, read back by its REST API."""

import hashlib
import json
import math
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from example_run import commit, write, write_run
from servers import MlflowServer

from olivepress.results.reader import read
from olivepress.tools import mlflow_export

SECRET = "s3cret-of-the-tracking-server"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    found = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    try:
        found.start()
        yield found
    finally:
        found.kill()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed run; credentials in the environment, as a team has them."""
    write_run(tmp_path)
    commit(tmp_path, "A run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    return tmp_path


def export(*options: str) -> Result:
    return CliRunner().invoke(mlflow_export.main, list(options))


def api(server: MlflowServer, call: str, **body: object) -> dict:
    request = urllib.request.Request(f"{server.url}/api/2.0/mlflow/{call}", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def runs(server: MlflowServer, experiment: str) -> list[dict]:
    """The runs of an experiment, newest first."""
    query = urllib.parse.urlencode({"experiment_name": experiment})
    with urllib.request.urlopen(f"{server.url}/api/2.0/mlflow/experiments/get-by-name?{query}") as answer:
        number = json.load(answer)["experiment"]["experiment_id"]
    return api(server, "runs/search", experiment_ids=[number]).get("runs", [])


def pairs(entries: list[dict]) -> dict:
    return {entry["key"]: entry["value"] for entry in entries}


def test_params_metrics_curves_report_and_model_are_there_once(server, root):
    done = export("--tracking-uri", server.url)
    assert done.exit_code == 0, done.output
    (run,) = runs(server, "ft-for-travel")
    assert done.output == f"ft-for-travel: run {run['info']['run_id']} has these results\n"
    assert run["info"]["run_name"] == "ft-for-travel 0.1.0"
    assert run["info"]["status"] == "FINISHED"

    params = pairs(run["data"]["params"])
    assert params["quantize.algorithm"] == "awq"
    assert params["adapters.travel.lora.rank"] == "4"
    metrics = pairs(run["data"]["metrics"])
    assert metrics["evaluate/cpu-int4/travel/held_out.loss.finetuned_onnx"] == 2.302
    assert metrics["evaluate-base/cpu-int4/general.same_top_token.quantized"] == 0.991
    assert metrics["loss/travel/held_out"] == 2.3
    assert not any("seconds" in key for key in metrics)  # cost belongs to a machine

    query = urllib.parse.urlencode({"run_id": run["info"]["run_id"], "metric_key": "loss/travel/held_out"})
    with urllib.request.urlopen(f"{server.url}/api/2.0/mlflow/metrics/get-history?{query}") as answer:
        history = json.load(answer)["metrics"]
    assert [(int(point.get("step", 0)), point["value"]) for point in history] == [(0, 3.5), (2, 2.3)]

    tags = pairs(run["data"]["tags"])
    assert tags["olivepress.verdict"] == "passed"
    assert tags["olivepress.md5/models/onnx/cpu-int4/model"] == "0a1b"
    assert tags["olivepress.results"] == hashlib.sha256((root / "dvc.lock").read_bytes()).hexdigest()
    assert len(tags["mlflow.source.git.commit"]) == 40
    number = run["info"]["run_id"]
    for path, begins in (("report/index.html", b"<!DOCTYPE html>"), ("dvc.lock", b"schema:"), ("params.yaml", b"")):
        place = f"{server.url}/get-artifact?run_uuid={number}&path={urllib.parse.quote(path)}"
        with urllib.request.urlopen(place) as answer:
            assert answer.read().startswith(begins)

    again = export("--tracking-uri", server.url)
    assert again.output == f"ft-for-travel: these results are there already, as run {number}\n"
    assert len(runs(server, "ft-for-travel")) == 1
    for said in (done.output, again.output, server.log.read_text(), json.dumps(run)):
        assert SECRET not in said


def test_many_metrics_and_long_params_fit_and_what_is_no_number_is_left_out(server, root):
    write(root, "quality/many", {**{f"layer_{number}": number for number in range(1500)}, "broken": math.nan})
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + f"smoke_infer:\n  prompt: [{'x' * 9000}]\n")
    done = export("--tracking-uri", server.url, "--experiment", "many")
    assert done.exit_code == 0, done.output
    (run,) = runs(server, "many")
    metrics = pairs(run["data"]["metrics"])
    assert metrics["many/layer_1499"] == 1499
    assert "many/broken" not in metrics
    assert len(pairs(run["data"]["params"])["smoke_infer.prompt"]) == 6000


def test_results_of_an_earlier_run_are_not_exported(server, root):
    from olivepress.core.errors import PressError

    with pytest.raises(PressError, match="prepare@travel: results of an earlier run"):
        mlflow_export.export(read(root, {"prepare@travel"}), server.url)


def test_a_server_that_is_not_there_or_was_not_named_is_said_without_secrets(root, monkeypatch):
    done = export("--tracking-uri", "http://127.0.0.1:9")
    assert done.exit_code == 1
    assert "Error: MLflow: " in done.output
    assert SECRET not in done.output
    done = export("--tracking-uri", f"http://somebody:{SECRET}@127.0.0.1:9")
    assert done.exit_code == 1
    assert "MLFLOW_TRACKING_PASSWORD" in done.output
    assert SECRET not in done.output
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "which server?" in export().output
