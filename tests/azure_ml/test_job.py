"""`make azure-submit`: the pipeline as a job on Azure ML compute."""

import base64
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from front import Response
from test_publish import made

from olivepress.core.errors import PressError
from olivepress.tools.azure_job import checked, main, specification
from olivepress.tools.reproduce import clone

ROOT = Path(__file__).parents[2]
SECRET = base64.b64encode(os.urandom(24)).decode()


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Path:
    """A clone of this project with a cloud remote, whose key lies where git does not see it."""
    folder = tmp_path_factory.mktemp("job") / "project"
    clone(ROOT, folder)
    for unused in ("benchmarks", "docs", "operators", "tests"):  # half of the files, each of which is an upload
        shutil.rmtree(folder / unused)
    for command in (
        ["add", "--default", "storage", "azure://press/data"],
        ["modify", "storage", "account_name", "pressdata"],
        ["modify", "--local", "storage", "account_key", SECRET],
    ):
        subprocess.run(["dvc", "remote", *command], cwd=folder, check=True, capture_output=True)
    (folder / "untracked.txt").write_text("not for Azure")
    return folder


@pytest.fixture
def project(front, original, tmp_path) -> Path:
    return shutil.copytree(original, tmp_path / "project")


@pytest.fixture
def submit(project, monkeypatch):
    """Run the command in the project; what SDK and command say on both streams is apart."""
    monkeypatch.chdir(project)
    return lambda *options: CliRunner().invoke(main, options)


def uploaded(cloud) -> dict[str, bytes]:
    """Path -> bytes of the code of the one job."""
    ((place, key),) = [key for key in cloud.assets if key[1].startswith("codes/")]
    uri = cloud.assets[place, key]["1"]["properties"]["codeUri"]
    return {path.partition("/")[2]: content for path, content in cloud.blobs(uri.split("/")[3]).items()}


def set_job(folder: Path, **changes: object) -> None:
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["azure"]["job"].update(changes)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def test_a_dry_run_shows_the_job_and_calls_nobody(project, submit, front):
    done = submit("--dry-run")
    assert done.exit_code == 0, done.stderr
    assert not front.calls and not done.stderr
    job = yaml.safe_load(done.stdout)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())["azure"]["job"]
    assert job["type"] == "command" and job["environment"] == {"image": params["image"]}
    assert job["resources"]["instance_type"] == params["instance_type"]
    assert "compute" not in job
    steps = job["command"].split(" && ")
    assert steps[2:5] == ["dvc pull --run-cache --allow-missing", "dvc repro", "dvc push --run-cache"]
    assert SECRET not in done.stdout and str(project) not in done.stdout


def test_what_is_submitted(project, submit, front, cloud):
    set_job(project, instance_type="Standard_ND96isr_H100_v5", timeout_minutes=30)
    done = submit()
    assert done.exit_code == 0, done.stderr
    ((name, job),) = cloud.jobs.items()
    assert f"job     {name}\n" in done.stdout and f"az ml job download --name {name}" in done.stdout
    asked = job["properties"]
    assert asked["jobType"] == "Command"
    assert asked["resources"]["instanceType"] == "Standard_ND96isr_H100_v5"
    assert asked["limits"]["timeout"] == "PT30M"
    assert asked["identity"] == {"identityType": "Managed"}
    assert asked["outputs"]["results"]["jobOutputType"] == "uri_folder"

    # the code is the tracked files, pointed to the remote, and no secret
    files = uploaded(cloud)
    listed = subprocess.run(["git", "ls-files"], cwd=project, capture_output=True, text=True, check=True).stdout
    tracked = {path for path in listed.splitlines() if (project / path).is_file()}
    assert tracked <= files.keys()
    assert files.keys() - tracked == {".dvc/config.local", ".amlignore"}
    assert not [path for path, content in files.items() if SECRET.encode() in content]
    assert files["params.yaml"] == (project / "params.yaml").read_bytes()


def test_what_azure_gets_is_a_project_that_dvc_understands(project, submit, front, cloud, tmp_path):
    """No git there: DVC must find its stages and the remote in the snapshot alone."""
    assert submit().exit_code == 0
    there = tmp_path / "there"
    for path, content in uploaded(cloud).items():
        target = there / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def run(*command: str) -> str:
        return subprocess.run(command, cwd=there, capture_output=True, text=True, check=True).stdout

    assert "evaluate@travel-cpu-int4" in run("dvc", "stage", "list", "--name-only")
    assert "azure://press/data" in run("dvc", "remote", "list")
    assert run("dvc", "config", "remote.job.account_name").strip() == "pressdata"


def test_the_calls_of_a_submission(submit, front):
    submit()
    calls = [re.sub(r"(codes|jobs|versions)/[\w-]{2,}", r"\1/ID", call) for call in made(front)]
    assert [call for call in calls if "UPLOAD" not in call and "TENANT" not in call] == [
        "200 GET /workspaces/press-space/codes/ID/versions",  # was this code uploaded before?
        "200 POST /workspaces/press-space/codes/ID/versions/1/startPendingUpload",
        "201 PUT /workspaces/press-space/codes/ID/versions/1",
        "201 PUT /workspaces/press-space/environments/CliV2AnonymousEnvironment/versions/ID",
        "201 PUT /workspaces/press-space/jobs/ID",
    ]


def test_a_cluster_has_its_own_machines(project, submit):
    set_job(project, compute="gpu-cluster")
    job = yaml.safe_load(submit("--dry-run").stdout)
    assert job["compute"] == "azureml:gpu-cluster"
    assert "instance_type" not in job["resources"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": ""}, "azure.job.image is ''; expected str"),
        ({"timeout_minutes": "long"}, "azure.job.timeout_minutes is 'long'; expected int"),
    ],
)
def test_bad_params(project, submit, front, changes, message):
    set_job(project, **changes)
    done = submit("--dry-run")
    assert done.exit_code == 1 and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not front.calls


def test_the_sdk_checks_the_specification(tmp_path):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())["azure"]["job"]
    wanted = specification(params, tmp_path, {"git_commit": "0" * 40})
    assert checked(wanted).command == wanted["command"]
    wanted["resources"]["instance_count"] = "many"
    with pytest.raises(PressError, match=r"azure\.job: the SDK refuses the job: .*instance_count"):
        checked(wanted)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", ".dvc/config: no default remote. Data and models travel through it: dvc remote add"),
        ("url = /mnt/store", "the default remote storage is /mnt/store: the compute in Azure cannot reach it."),
        ("url = ssh://host/path", "the default remote storage is ssh://host/path: the compute in Azure cannot"),
    ],
)
def test_a_remote_that_azure_cannot_reach(project, submit, front, config, message):
    (project / ".dvc/config.local").unlink()
    remote = f"[core]\nremote = storage\n['remote \"storage\"']\n{config}\n" if config else ""
    (project / ".dvc/config").write_text(remote)
    done = submit("--dry-run")
    assert done.exit_code == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_outside_of_git(project, submit, front):
    shutil.rmtree(project / ".git")
    done = submit("--dry-run")
    assert done.exit_code == 1 and "no git repository with a commit" in done.stderr


def test_a_machine_that_the_subscription_does_not_have(project, submit, front):
    quota = Response.error(400, "UserError", "Not enough quota available for Standard_NC24ads_A100_v4.")
    front.fault("PUT", r"/jobs/[^/]+$", answer=quota)
    done = submit()
    assert done.exit_code == 1
    assert "Error: submitting the job: Azure refused it with status 400: UserError: Not enough quota" in done.stderr
    assert "Traceback" not in done.stderr
