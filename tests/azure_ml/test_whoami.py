"""`make azure-whoami`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cloud as azure

ROOT = Path(__file__).parents[2]


def whoami(folder: Path = ROOT, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "olivepress.azure_whoami"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **changes},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_shows_who_and_where(front):
    done = whoami()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"signed in as    application {azure.CLIENT} (tenant {azure.TENANT})",
        f"subscription    {azure.SUBSCRIPTION}",
        f"resource group  {azure.GROUP}",
        f"workspace       {azure.WORKSPACE}",
        "location        eastus",
    ]


def test_it_takes_the_portals_config_file(front, monkeypatch, tmp_path):
    for name in azure.WORKSPACE_NAMES:
        monkeypatch.delenv(name)
    (tmp_path / ".azureml").mkdir()
    config = {"subscription_id": azure.SUBSCRIPTION, "resource_group": azure.GROUP, "workspace_name": azure.WORKSPACE}
    (tmp_path / ".azureml/config.json").write_text(json.dumps(config))
    assert f"workspace       {azure.WORKSPACE}" in whoami(tmp_path).stdout
    (tmp_path / ".azureml/config.json").write_text("{}")
    done = whoami(tmp_path)
    assert done.returncode == 1
    assert "Error: .azureml/config.json: expected JSON with subscription_id" in done.stderr


def test_a_wrong_workspace_is_one_line(front):
    done = whoami(AZUREML_WORKSPACE_NAME="elsewhere")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("Error: Azure: not found in workspace elsewhere")
    assert "Traceback" not in done.stderr
