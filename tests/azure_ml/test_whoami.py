"""`make azure-whoami`; test_round_trip.py has it as a command of its own."""

import json

import cloud as azure
from click.testing import CliRunner, Result

from olivepress.tools.azure_whoami import main


def whoami() -> Result:
    return CliRunner().invoke(main, catch_exceptions=False)


def test_it_shows_who_and_where(front):
    done = whoami()
    assert done.exit_code == 0, done.stderr
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
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".azureml").mkdir()
    config = {"subscription_id": azure.SUBSCRIPTION, "resource_group": azure.GROUP, "workspace_name": azure.WORKSPACE}
    (tmp_path / ".azureml/config.json").write_text(json.dumps(config))
    assert f"workspace       {azure.WORKSPACE}" in whoami().stdout
    (tmp_path / ".azureml/config.json").write_text("{}")
    done = whoami()
    assert done.exit_code == 1
    assert "Error: .azureml/config.json: expected JSON with subscription_id" in done.stderr


def test_a_wrong_workspace_is_one_line(front, monkeypatch):
    monkeypatch.setenv("AZUREML_WORKSPACE_NAME", "elsewhere")
    done = whoami()
    assert done.exit_code == 1
    assert done.stderr.strip().splitlines()[-1].startswith("Error: Azure: not found in workspace elsewhere")
    assert "Traceback" not in done.stderr
