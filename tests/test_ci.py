"""The files that others run: GitHub and GitLab workflows, the compose file, the shell scripts around the image."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SCRIPTS = [ROOT / ".ci/run", *sorted((ROOT / "docker").glob("*.sh"))]
SCHEMAS = [
    *(("vendor.github-workflows", path) for path in WORKFLOWS),
    ("vendor.gitlab-ci", ROOT / ".gitlab-ci.yml"),
    ("vendor.compose-spec", ROOT / "docker/compose.yaml"),
]


def steps(workflow: Path) -> list[dict]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def lint(schema: str, path: Path) -> subprocess.CompletedProcess:
    """check-jsonschema with the schema that it carries: no network."""
    transform = ["--data-transform", "gitlab-ci"] if schema == "vendor.gitlab-ci" else []
    command = ["check-jsonschema", "--builtin-schema", schema, *transform, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("schema", "path"), SCHEMAS, ids=lambda value: getattr(value, "name", value))
def test_it_follows_its_schema(schema, path):
    done = lint(schema, path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_would_tell(tmp_path):
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs_on:"))
    assert lint("vendor.github-workflows", broken).returncode != 0


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_commit_and_says_its_release(workflow):
    used = re.findall(r"uses: (.*)", workflow.read_text())
    assert used
    for line in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_can_write_only_where_it_must(workflow):
    parsed = yaml.safe_load(workflow.read_text())
    assert parsed["permissions"] == {"contents": "read"}
    for step in steps(workflow):
        # an expression pasted into a script runs as code: values go through the environment
        assert "${{" not in step.get("run", ""), step
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_only_the_projects_own_branches_reach_the_gpu_runner():
    gpu = yaml.safe_load(WORKFLOWS[0].read_text())["jobs"]["gpu"]
    assert "self-hosted" in gpu["runs-on"]
    assert "head.repo.full_name == github.repository" in gpu["if"]


@pytest.mark.parametrize("workflow", [*WORKFLOWS, ROOT / ".gitlab-ci.yml"], ids=lambda path: path.name)
def test_the_scripts_that_it_calls_are_there(workflow):
    called = set(re.findall(r"(?<![\w/])(?:docker|\.ci)/[\w.]+", workflow.read_text())) - {"docker/container.md"}
    scripts = {name for name in called if name.endswith(".sh") or name == ".ci/run"}
    assert {".ci/run", "docker/ci.sh", "docker/build.sh"} <= scripts
    for name in scripts:
        assert (ROOT / name).stat().st_mode & 0o100, name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_and_stops_at_the_first_error(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "set -euo pipefail" in script.read_text()
