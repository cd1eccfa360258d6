"""Groups of stages as one pipeline job of Azure ML: a command job for each, then one that hands back what all made.

The image, the compute and the limits are those of `azure.job` in params.yaml, as for `olivepress azure submit`. A group
waits for another by taking its output; what is made travels through the DVC remote, as there.
"""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.tools import azure_job, azure_yaml
from olivepress.tools.cluster.groups import Group

if TYPE_CHECKING:
    from azure.ai.ml.entities import PipelineJob

SCHEMA = "https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json"
LAST = "joined"


def nodes(every: list[Group]) -> dict[str, str]:
    """Group -> its job's name in the pipeline: Azure takes small letters, digits and "_" there."""
    named: dict[str, str] = {}
    for group in every:
        plain = re.sub(r"[^a-z0-9]", "_", group.name.lower())
        taken = {*named.values(), LAST}
        named[group.name] = plain if plain not in taken else f"{plain}_{len(named)}"
    return named


def specification(params: dict[str, Any], every: list[Group], code: Path, tags: dict[str, str]) -> dict[str, Any]:
    """The pipeline job as Azure ML's YAML schema has it. ``params`` is the section azure.job of params.yaml."""
    single = azure_job.specification(params, code, tags)
    named = nodes(every)
    shared = {key: single[key] for key in ("code", "environment", "limits", "identity", "environment_variables")}
    shared["resources"] = single["resources"]
    if "compute" in single:
        shared["compute"] = single["compute"]
    jobs = {
        named[group.name]: _job(shared, group.stages, [named[need] for need in group.needs], "done") for group in every
    }
    jobs[LAST] = _job(shared, (), list(named.values()), "results")
    jobs[LAST]["outputs"]["results"] = "${{parent.outputs.results}}"
    serverless = {} if "compute" in single else {"settings": {"default_compute": "serverless"}}
    return {
        "$schema": SCHEMA,
        "type": "pipeline",
        "display_name": single["display_name"],
        "description": "the stages of dvc.yaml, adapters and targets beside one another",
        "experiment_name": single["experiment_name"],
        "tags": tags,
        **serverless,
        "outputs": single["outputs"],
        "jobs": jobs,
    }


def _job(shared: dict[str, Any], stages: tuple[str, ...], needs: list[str], output: str) -> dict[str, Any]:
    files = "dvc.lock results" if output == "results" else "dvc.lock"
    steps = [
        *azure_job.STEPS[:2],  # the shell's options and the identity
        shlex.join(["python", "-m", "olivepress", "cluster", "work", *stages]),
        f"cp -r {files} ${{{{outputs.{output}}}}}",
    ]
    return {
        "type": "command",
        **shared,
        "command": " && ".join(steps),
        "inputs": {f"after_{need}": f"${{{{parent.jobs.{need}.outputs.done}}}}" for need in needs},
        "outputs": {output: {"type": "uri_folder", "mode": "rw_mount"}},
    }


def checked(wanted: dict[str, Any]) -> "PipelineJob":
    """The pipeline as the SDK reads it; PressError with what its schema objects to."""
    from azure.ai.ml import load_job

    return azure_yaml.checked(wanted, load_job, "the SDK refuses the pipeline")
