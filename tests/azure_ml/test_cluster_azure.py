"""`olivepress cluster azure`: the stages as one pipeline job of Azure ML, a command job for each group."""

import json
import subprocess

import pytest
import yaml
from click.testing import CliRunner
from test_job import SECRET, original, project, set_job  # noqa: F401 - fixtures

from olivepress.core.errors import PressError
from olivepress.tools.cluster import azure_engine
from olivepress.tools.cluster.command import azure
from olivepress.tools.cluster.groups import Group

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")


@pytest.fixture
def submit(project, monkeypatch):  # noqa: F811
    monkeypatch.chdir(project)
    return lambda *options: CliRunner().invoke(azure, options)


def test_a_dry_run_shows_the_pipeline_and_calls_nobody(project, submit, front):  # noqa: F811
    done = submit("--dry-run")
    assert done.exit_code == 0, done.stderr
    assert not front.calls
    assert SECRET not in done.stdout and str(project) not in done.stdout
    pipeline = yaml.safe_load(done.stdout)
    assert pipeline["type"] == "pipeline" and pipeline["settings"] == {"default_compute": "serverless"}
    jobs = pipeline["jobs"]
    assert set(jobs) == {
        "shared",
        "adapter_travel",
        "adapter_cooking",
        "target_cpu_int4",
        "travel_on_cpu_int4",
        "cooking_on_cpu_int4",
        "release_cpu_int4",
        "joined",
    }
    pair = jobs["travel_on_cpu_int4"]
    assert pair["inputs"] == {
        "after_adapter_travel": "${{parent.jobs.adapter_travel.outputs.done}}",
        "after_target_cpu_int4": "${{parent.jobs.target_cpu_int4.outputs.done}}",
    }
    stages = "convert-adapter@travel-cpu-int4 smoke-infer@travel-cpu-int4 evaluate@travel-cpu-int4"
    assert f" && python -m olivepress cluster work {stages} && cp -r dvc.lock ${{{{outputs.done}}}}" in pair["command"]
    assert (
        " && python -m olivepress cluster work && cp -r dvc.lock results ${{outputs.results}}"
        in jobs["joined"]["command"]
    )
    assert jobs["joined"]["outputs"]["results"] == "${{parent.outputs.results}}"


def test_a_cluster_has_its_own_machines(project, submit):  # noqa: F811
    set_job(project, compute="gpu-cluster")
    pipeline = yaml.safe_load(submit("--dry-run").stdout)
    assert "settings" not in pipeline
    assert all(job["compute"] == "azureml:gpu-cluster" for job in pipeline["jobs"].values())


def test_names_that_azure_does_not_take(tmp_path):
    every = [Group("adapter-A.b", (), ()), Group("adapter-a_b", (), ("adapter-A.b",)), Group("joined", (), ())]
    assert azure_engine.nodes(every) == {
        "adapter-A.b": "adapter_a_b",
        "adapter-a_b": "adapter_a_b_1",
        "joined": "joined_2",
    }


def test_the_sdk_checks_the_pipeline(project):  # noqa: F811
    params = yaml.safe_load((project / "params.yaml").read_text())["azure"]["job"]
    wanted = azure_engine.specification(params, [Group("shared", ("fetch",), ())], project, {"git_commit": "0" * 40})
    assert set(azure_engine.checked(wanted).jobs) == {"shared", "joined"}
    wanted["jobs"]["shared"]["limits"] = {"timeout": "soon"}
    with pytest.raises(PressError, match=r"the SDK refuses the pipeline: .*timeout"):
        azure_engine.checked(wanted)


def test_outside_of_git(project, submit, front):  # noqa: F811
    subprocess.run(["rm", "-r", ".git"], cwd=project, check=True)
    done = submit("--dry-run")
    assert done.exit_code == 1 and "no git repository with a commit" in done.stderr


@pytest.mark.slow  # the SDK hashes the code for every job
def test_what_is_submitted(submit, front, cloud):
    done = submit()
    assert done.exit_code == 0, done.stderr
    ((name, job),) = cloud.jobs.items()
    assert f"job     {name}\n" in done.stdout and f"az ml job download --name {name}" in done.stdout
    asked = job["properties"]
    assert asked["jobType"] == "Pipeline" and set(asked["outputs"]) == {"results"}
    jobs = asked["jobs"]
    assert len(jobs) == 8
    assert jobs["release_cpu_int4"]["inputs"]["after_travel_on_cpu_int4"]["value"] == (
        "${{parent.jobs.travel_on_cpu_int4.outputs.done}}"
    )
    assert jobs["joined"]["outputs"]["results"]["value"] == "${{parent.outputs.results}}"
    codes = [key for key in cloud.assets if key[1].startswith("codes/")]
    assert codes
    assert SECRET not in json.dumps(cloud.jobs) + json.dumps(list(cloud.assets.values()))
