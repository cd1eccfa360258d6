"""Run the pipeline on Azure ML compute: the project's tracked files, its params and its DVC remote, in our image.

olivepress azure submit [--dry-run]

Code goes up as a snapshot. Data and models travel through the DVC remote alone: the job pulls what the lock names (and
the run cache, so that stages done elsewhere are not repeated), reproduces, and pushes. It returns dvc.lock and results/
as its output `results`. The compute opens the remote under its managed identity: no secret goes into the job.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olivepress.azure.publish import git_state
from olivepress.azure.workspace import connect, explained, workspace
from olivepress.core.errors import PressError
from olivepress.core.params import read_params
from olivepress.tools import azure_yaml
from olivepress.tools.reproduce import tracked

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job

# In order; Azure ML puts the identity's id where azure-identity does not look for it.
STEPS = (
    "set -eux",
    'export AZURE_CLIENT_ID="${AZURE_CLIENT_ID:-${DEFAULT_IDENTITY_CLIENT_ID:-}}"',
    "dvc pull --run-cache --allow-missing",
    "dvc repro",
    "dvc push --run-cache",
    "cp -r dvc.lock results ${{outputs.results}}",
)
# What of a remote's settings goes along: where it is, never how to open it.
REMOTE_KEYS = ("url", "account_name", "endpointurl", "region")
SERVERLESS = "serverless"


def default(root: Path) -> str | None:
    """The name of the project's default DVC remote."""
    from dvc.config import Config

    return Config(str(root / ".dvc"))["core"].get("remote")


def location(root: Path) -> dict[str, str]:
    """Where the default DVC remote of the project in ``root`` is, without its secrets; PressError if there is none."""
    from dvc.config import Config

    config, name = Config(str(root / ".dvc")), default(root)
    if not name or name not in config["remote"]:
        raise PressError(
            ".dvc/config: no default remote. Data and models travel through it: "
            "dvc remote add --default storage azure://CONTAINER/PATH"
        )
    return {key: str(config["remote"][name][key]) for key in REMOTE_KEYS if config["remote"][name].get(key)}


def remote(root: Path) -> dict[str, str]:
    """`location`; PressError for a local one, too."""
    found = location(root)
    if "://" not in found["url"] or found["url"].startswith(("file://", "ssh://")):
        raise PressError(
            f".dvc/config: the default remote {default(root)} is {found['url']}: the compute in Azure cannot reach it. "
            "Expected azure://, s3:// or another cloud storage."
        )
    return found


def snapshot(root: Path, folder: Path, settings: dict[str, str]) -> None:
    """Copy the tracked files of ``root`` to ``folder``, as they lie there, and point DVC to its remote."""
    for name in tracked(root):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / name)
    lines = ["[core]", "remote = job", "no_scm = true", "['remote \"job\"']", "verify = true"]
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvc/config.local").write_text(
        "\n".join([*lines, *(f"{key} = {value}" for key, value in settings.items())]) + "\n", encoding="utf-8"
    )
    (folder / ".amlignore").touch()  # takes precedence over .gitignore, which is for the checkout that it came from


def specification(params: dict[str, Any], code: Path, tags: dict[str, str]) -> dict[str, Any]:
    """The command job as Azure ML's YAML schema has it. ``params`` is the section azure.job of params.yaml."""
    if params["compute"] == SERVERLESS:
        machine = {"resources": {"instance_type": params["instance_type"], "instance_count": 1}}
    else:  # a cluster has its own kind of machine
        machine = {"compute": f"azureml:{params['compute']}", "resources": {"instance_count": 1}}
    machine["resources"]["shm_size"] = params["shm_size"]  # PyTorch's processes talk through it
    return {
        "$schema": "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json",
        "type": "command",
        "display_name": f"olive-press {tags['git_commit'][:10]}",
        "description": "dvc repro of the whole pipeline",
        "experiment_name": params["experiment"],
        "tags": tags,
        "code": str(code),
        "command": " && ".join(STEPS),
        "environment": {"image": params["image"]},
        **machine,
        "limits": {"timeout": params["timeout_minutes"] * 60},
        "identity": {"type": "managed"},
        "environment_variables": {"DVC_NO_ANALYTICS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
        "outputs": {"results": {"type": "uri_folder", "mode": "rw_mount"}},
    }


def checked(wanted: dict[str, Any]) -> "Job":
    """The job as the SDK reads it; PressError with what its schema objects to."""
    from azure.ai.ml import load_job

    return azure_yaml.checked(wanted, load_job, "azure.job: the SDK refuses the job")


def settings(params: Path) -> dict[str, Any]:
    """The section azure.job of ``params``, complete and of the right types."""
    section = (read_params(params).get("azure") or {}).get("job") or {}
    kinds = {"image": str, "compute": str, "instance_type": str, "experiment": str, "shm_size": str}
    for key, kind in {**kinds, "timeout_minutes": int}.items():
        if not isinstance(section.get(key), kind) or not section[key]:
            raise PressError(f"{params}: azure.job.{key} is {section.get(key)!r}; expected {kind.__name__}.")
    return section


def submit(
    what: str,
    specify: Callable[[dict[str, Any], Path, dict[str, str]], dict[str, Any]],
    check: Callable[[dict[str, Any]], "Job"],
    *,
    dry_run: bool,
) -> None:
    """Submit ``what``, or print it: what ``specify`` makes of azure.job, the code's folder and the git state.

    PressError for what the SDK (``check``) or Azure objects to.
    """
    root = Path.cwd()
    params = settings(root / "params.yaml")
    state = git_state()
    if not state:
        raise PressError(f"{root}: no git repository with a commit. {what.capitalize()} takes the tracked files.")
    with tempfile.TemporaryDirectory(prefix="olive-press-code-") as folder:
        code = Path(folder) / "olive-press"
        snapshot(root, code, remote(root))
        wanted = specify(params, code, state)
        job = check(wanted)
        if dry_run:
            click.echo(azure_yaml.shown(wanted).replace(str(code), "."), nl=False)
            return
        store = workspace()
        with explained(f"submitting {what}", store):
            submitted = connect(store).jobs.create_or_update(job)
    click.echo(f"job     {submitted.name}")
    click.echo(f"status  {submitted.status}")
    click.echo(f"page    {submitted.studio_url}")
    click.echo(f"When it is done: az ml job download --name {submitted.name} --output-name results, then dvc pull")


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the job's specification, checked by the SDK; submit nothing.")
def main(dry_run: bool) -> None:
    """Submit `dvc repro` as a job to the Azure ML workspace that the environment names."""
    submit("the job", specification, checked, dry_run=dry_run)
