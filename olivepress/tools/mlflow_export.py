"""olivepress mlflow export: the last run as a run of an MLflow server, for teams that keep theirs there.

DVC stays what runs and remembers; MLflow gets a copy of what people look at: params, metrics, loss curves, the report,
and which model that was, by the hashes of dvc.lock. A DVC experiment is exported once it is applied (`dvc exp apply`).
"""

import hashlib
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from olivepress.core.errors import PressError
from olivepress.page.contents import contents
from olivepress.page.provenance import commit
from olivepress.results.changes import QUALITY
from olivepress.results.reader import Results, read
from olivepress.results.stale import stale_stages
from olivepress.tools import report

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

LONGEST = 6000  # characters of a param that MLflow takes
AT_ONCE = {"params": 100, "metrics": 1000}  # as many as it takes in a request
KEY = "olivepress.results"  # the tag that tells whether these results are there already


@click.command()
@click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="The server; default: MLFLOW_TRACKING_URI.")
@click.option("--experiment", help="MLflow's experiment; default: the name in register.name.")
def main(tracking_uri: str | None, experiment: str | None) -> None:
    """Copy the last run to an MLflow server: params, metrics, loss curves, report, and which model it was.

    User, password or token come from the environment (MLFLOW_TRACKING_USERNAME and so on). The same results are
    copied once.
    """
    if not tracking_uri:
        raise PressError("which server? --tracking-uri http://…, or MLFLOW_TRACKING_URI in the environment.")
    if urlsplit(tracking_uri).password is not None:
        raise PressError(
            "--tracking-uri: has a password in it, which lists of processes show. Give it in the environment: "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        )
    root = Path.cwd()
    click.echo(export(read(root, stale_stages(root)), tracking_uri, experiment))


def export(results: Results, uri: str, experiment: str | None = None) -> str:
    """Copy ``results`` to the MLflow server at ``uri``; returns what to tell the user.

    Raises PressError if results are of an earlier run, or the server cannot be reached or refuses.
    """
    # nobody is told that somebody exports; a server that is not there is said soon, not after minutes; ours is the text
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    for name, value in {**quiet, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    if results.stale:
        raise PressError(
            f"{', '.join(sorted(results.stale)[:3])}: results of an earlier run, which params, data or code of today "
            "would not give. make repro, then export."
        )
    experiment = experiment or results.params["register"]["name"]
    key = hashlib.sha256((results.root / "dvc.lock").read_bytes()).hexdigest()
    try:
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(experiment)
        place = known.experiment_id if known else client.create_experiment(experiment)
        there = client.search_runs([place], f"tags.`{KEY}` = '{key}' and attributes.status = 'FINISHED'", max_results=1)
        if there:
            return f"{experiment}: these results are there already, as run {there[0].info.run_id}"
        return f"{experiment}: run {_write(client, place, results, key)} has these results"
    except MlflowException as error:
        raise PressError(f"MLflow: {' '.join(str(error).split())[:400]}") from error


def _write(client: "MlflowClient", place: str, results: Results, key: str) -> str:
    """Make the run; one that breaks off is marked as failed, and made again the next time."""
    register = results.params["register"]
    run = client.create_run(place, tags=tags(results, key), run_name=f"{register['name']} {register['version']}")
    number = run.info.run_id
    try:
        _log(client, number, results)
    except BaseException:
        client.set_terminated(number, "FAILED")
        raise
    client.set_terminated(number)
    return number


def _log(client: "MlflowClient", number: str, results: Results) -> None:
    from mlflow.entities import Param

    params = [Param(key, str(value)[:LONGEST]) for key, value in settings(results).items()]
    for kind, entries in (("params", params), ("metrics", list(metrics(results)))):
        for start in range(0, len(entries), AT_ONCE[kind]):
            client.log_batch(number, **{kind: entries[start : start + AT_ONCE[kind]]})
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / report.PAGE.name
        report.write(results, page)
        client.log_artifact(number, str(page), "report")
    for file in ("params.yaml", "dvc.lock"):
        client.log_artifact(number, str(results.root / file))


def tags(results: Results, key: str) -> dict[str, str]:
    """What the run is of: verdict, commit, and each exported model by its path and hash in dvc.lock."""
    found = {KEY: key, "olivepress.verdict": contents(results).verdict}
    made = commit(results.root)
    if made:
        found["mlflow.source.git.commit"] = made.hash
        found["olivepress.uncommitted_changes"] = str(len(made.changed))
    for stage in results.lock.values():
        for out in stage.get("outs", []):
            if out["path"].startswith("models/onnx/"):
                found[f"olivepress.md5/{out['path']}"] = str(out.get("md5", ""))
    return found


def settings(results: Results) -> dict[str, Any]:
    """Every param under its dotted name, but where it is published and computed, which says nothing about the run."""
    from dvc.utils.flatten import flatten

    return flatten({section: value for section, value in results.params.items() if section != "azure"})


def metrics(results: Results) -> "Iterator[Metric]":
    """Every number of results/quality under its path and key, and the losses of training with their steps."""
    from dvc.utils.flatten import flatten
    from mlflow.entities import Metric

    for path in sorted((results.root / QUALITY).rglob("*.json")):
        place = path.relative_to(results.root / QUALITY).with_suffix("").as_posix()
        for key, value in flatten(results.json(f"{QUALITY}/{place}.json")).items():
            if isinstance(value, int | float) and math.isfinite(value):
                yield Metric(f"{place}/{key}", float(value), 0, 0)
    for adapter in results.adapters:
        for row in results.rows(f"plots/training/{adapter}"):
            yield Metric(f"loss/{adapter}/{row['rows'].replace(' ', '_')}", float(row["loss"]), 0, int(row["step"]))
