"""The files that others run: GitHub and GitLab workflows, the compose file, the shell scripts around the image."""

import re
import subprocess
from pathlib import Path

import check_jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PIPELINE = ROOT / ".github/workflows/pipeline.yml"
SCRIPTS = [
    *(ROOT / ".ci" / name for name in ("run", "audit", "pinned", "runner-hook.sh")),
    *sorted((ROOT / "docker").glob("*.sh")),
]
SCHEMAS = [
    *(("vendor.github-workflows", path) for path in WORKFLOWS),
    ("vendor.gitlab-ci", ROOT / ".gitlab-ci.yml"),
    ("vendor.compose-spec", ROOT / "docker/compose.yaml"),
    ("vendor.compose-spec", ROOT / "docker/serve/compose.yaml"),
    ("vendor.compose-spec", ROOT / "docker/serve/compose.cuda.yaml"),
]


def steps(workflow: Path) -> list[dict]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def lint(schema: str, path: Path) -> Result:
    """check-jsonschema with the schema that it carries: no network."""
    transform = ["--data-transform", "gitlab-ci"] if schema == "vendor.gitlab-ci" else []
    return CliRunner().invoke(check_jsonschema.main, ["--builtin-schema", schema, *transform, str(path)])


@pytest.mark.parametrize(("schema", "path"), SCHEMAS, ids=lambda value: getattr(value, "name", value))
def test_it_follows_its_schema(schema, path):
    done = lint(schema, path)
    assert done.exit_code == 0, done.output


def test_the_schema_would_tell(tmp_path):
    broken = tmp_path / "broken.yml"
    broken.write_text(PIPELINE.read_text().replace("runs-on:", "runs_on:"))
    done = lint("vendor.github-workflows", broken)
    assert done.exit_code == 1
    assert "Schema validation errors were encountered" in done.output


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


@pytest.mark.parametrize("workflow", [*WORKFLOWS, ROOT / ".gitlab-ci.yml"], ids=lambda path: path.name)
def test_the_scripts_that_it_calls_are_there(workflow):
    called = set(re.findall(r"(?<![\w/])(?:docker/[\w.]+\.sh|\.ci/[\w.-]+)", workflow.read_text()))
    needed = {"audit": {".ci/audit"}, "nightly": set()}  # the latter calls make
    assert called >= needed.get(workflow.stem, {".ci/run", "docker/ci.sh", "docker/build.sh"})
    for name in called:
        assert (ROOT / name).stat().st_mode & 0o100, name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_and_stops_at_the_first_error(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "set -euo pipefail" in script.read_text()


@pytest.mark.parametrize(("until", "slow", "left_out"), [("0", True, True), ("1e12", True, False), ("0", False, False)])
def test_a_slow_test_is_left_out_and_named_when_the_time_is_over(request, monkeypatch, until, slow, left_out):
    monkeypatch.setenv("PRESS_SLOW_UNTIL", until)
    if slow:
        request.node.add_marker("slow")
    hooks = request.config.pluginmanager.get_plugin(str(ROOT / "tests/conftest.py"))
    try:
        hooks.pytest_runtest_setup(request.node)
        said = ""
    except pytest.skip.Exception as skipped:
        said = str(skipped)
    assert said == (f"no time left: {request.node.nodeid}" if left_out else "")
