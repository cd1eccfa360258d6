"""The command of the Azure ML job, run for real: a colleague's stages come out of the remote, nothing is repeated."""

import os
import shutil
import subprocess

import pytest

from olivepress.tools import azure_job


@pytest.fixture
def pushed(finished, azurite, tmp_path):
    """The finished pipeline with everything in an Azure remote, which is Azurite."""
    from azure.storage.blob import BlobServiceClient

    space = finished.copy(tmp_path / "pushed")
    BlobServiceClient.from_connection_string(azurite.connection_string).create_container("job-data")
    space.run("dvc", "remote", "add", "-d", "-f", "shared", "azure://job-data/press")
    space.run("dvc", "remote", "modify", "--local", "shared", "connection_string", azurite.connection_string)
    space.run("dvc", "push", "--run-cache")
    space.run("git", "add", "results", "dvc.lock")  # as after the commit: quality figures travel in git
    return space


def test_the_jobs_own_command_restores_reproduces_and_hands_back(pushed, azurite, tmp_path):
    there, results = tmp_path / "there", tmp_path / "results"
    results.mkdir()
    azure_job.snapshot(pushed.folder, there, azure_job.remote(pushed.folder))
    assert not (there / ".git").exists() and not (there / "models").exists()
    settings = there / ".dvc/config.local"
    assert azurite.key not in settings.read_text()
    # in Azure the managed identity opens the remote
    settings.write_text(settings.read_text() + f"connection_string = {azurite.connection_string}\n")
    command = " && ".join(azure_job.STEPS).replace("${{outputs.results}}", str(results))
    done = subprocess.run(
        ["bash", "-c", command], cwd=there, env={**os.environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Running stage" not in done.stdout
    assert (there / "models/onnx/cpu-int4/model/model.onnx.data").is_file()
    assert (results / "dvc.lock").read_bytes() == (pushed.folder / "dvc.lock").read_bytes()
    assert (results / "results/quality/evaluate/cpu-int4/travel.json").is_file()
    shutil.rmtree(there)
