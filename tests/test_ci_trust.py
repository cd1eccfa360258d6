"""What CI trusts: forks and the project's runners and secrets, images that could be changed, advisories."""

import json
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
GITLAB = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())
OURS, FORK = "team/press", "stranger/press"
DIGEST = "sha256:" + "0" * 64


def triggers(workflow: dict[Any, Any]) -> dict[str, Any]:
    return workflow[True]  # YAML 1.1 reads the key "on" as true


JOBS = [
    pytest.param(job, id=f"{path.stem}-{name}")
    for path in WORKFLOWS
    for name, job in yaml.safe_load(path.read_text())["jobs"].items()
]


def context(event: str, head: str = OURS) -> dict[str, Any]:
    """What GitHub's expressions can ask for an event; ``head``: whose branch a pull request is."""
    repo = SimpleNamespace(full_name=head)
    pull = SimpleNamespace(head=SimpleNamespace(repo=repo)) if event == "pull_request" else None
    return {
        "github": SimpleNamespace(event_name=event, repository=OURS, event=SimpleNamespace(pull_request=pull)),
        "vars": SimpleNamespace(GPU_RUNNER="true"),
    }


def runs(job: dict[str, Any], event: str, head: str = OURS) -> bool:
    """Whether a job's condition holds. GitHub's operators are Python's under other names; others are an error."""
    condition = re.sub(r"\$\{\{|\}\}", "", str(job.get("if", "true"))).strip()
    python = condition.replace("&&", " and ").replace("||", " or ").replace("true", "True", condition == "true")
    assert not re.search(r"[^\w\s.'!=()-]", python), f"a condition that this test cannot judge: {condition}"
    return bool(eval(python, {"__builtins__": {}}, context(event, head)))


def is_trusted_with_something(job: dict[str, Any]) -> bool:
    """Whether a job runs on a machine of the project's, sees a secret, or may write."""
    runner = job.get("runs-on", "")
    hosted = isinstance(runner, str) and re.fullmatch(r"(ubuntu|windows|macos)-[\w.]+", runner)
    text = json.dumps(job)
    return not hosted or "secrets" in text or "write" in json.dumps(job.get("permissions", {})) or "environment" in job


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_event_hands_a_fork_the_rights_of_the_project(path):
    """pull_request_target, workflow_run and issue_comment run with the project's secrets on what a stranger sent."""
    workflow = yaml.safe_load(path.read_text())
    assert set(triggers(workflow)) <= {"pull_request", "push", "schedule", "workflow_dispatch"}
    assert triggers(workflow).get("push", {"branches": ["main"]})["branches"] == ["main"]
    top = {key: value for key, value in workflow.items() if key != "jobs"}
    assert "secrets" not in json.dumps(top, default=str)


@pytest.mark.parametrize("job", JOBS)
def test_a_forks_pull_request_reaches_no_runner_and_no_secret_of_the_project(job):
    assert runs(job, "pull_request", FORK) is not is_trusted_with_something(job)
    for event in ("push", "pull_request", "workflow_dispatch"):
        assert runs(job, event)


def test_the_gpu_job_is_one_of_them():
    assert [param.id for param in JOBS if is_trusted_with_something(param.values[0])] == ["pipeline-gpu"]


@pytest.mark.parametrize("unsafe", ["github.event_name == 'pull_request'", "vars.GPU_RUNNER == 'true'", "true"])
def test_the_rule_would_tell(unsafe):
    job = {"runs-on": ["self-hosted"], "if": unsafe}
    assert is_trusted_with_something(job)
    assert runs(job, "pull_request", FORK)


def test_gitlabs_gpu_job_runs_for_no_fork():
    rules = [rule["if"] for rule in GITLAB["gpu"]["rules"]]
    requests = [rule for rule in rules if "merge_request_event" in rule]
    assert requests and all("$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID" in rule for rule in requests)
    assert all("$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH" in rule for rule in rules if rule not in requests)
    assert all(rule.startswith('$GPU_RUNNER == "true" && ') and "||" not in rule for rule in rules)


# --- the hook on the runner's machine, which a pull request cannot change


def hook(tmp_path: Path, event: str, payload: Any) -> subprocess.CompletedProcess[str]:
    (tmp_path / "event.json").write_text(payload if isinstance(payload, str) else json.dumps(payload))
    environment = {
        "PATH": os.environ["PATH"],
        "GITHUB_EVENT_NAME": event,
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_REPOSITORY": OURS,
    }
    return subprocess.run([ROOT / ".ci/runner-hook.sh"], env=environment, capture_output=True, text=True, check=False)


def pull(head: Any) -> dict[str, Any]:
    return {"pull_request": {"head": {"repo": head}}}


@pytest.mark.parametrize(
    ("event", "payload"),
    [("push", {}), ("workflow_dispatch", {}), ("schedule", {}), ("pull_request", pull({"full_name": OURS}))],
)
def test_the_runner_takes_the_projects_own_jobs(tmp_path, event, payload):
    done = hook(tmp_path, event, payload)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("pull_request", pull({"full_name": FORK})),
        ("pull_request", pull(None)),  # the fork is gone
        ("pull_request", {}),
        ("pull_request", "{"),
        ("pull_request_target", pull({"full_name": OURS})),
        ("issue_comment", {}),
        ("", {}),
    ],
)
def test_the_runner_refuses_forks_and_what_it_cannot_tell(tmp_path, event, payload):
    done = hook(tmp_path, event, payload)
    assert done.returncode == 1
    assert done.stderr


# --- images


@pytest.mark.parametrize(
    ("image", "passes"),
    [
        (f"debian:12-slim@{DIGEST}", True),
        (f"registry.example.org:5000/team/press@{DIGEST}", True),
        ("debian:12-slim", False),
        ("debian", False),
        ("", False),
        ("debian@sha256:0", False),
        (f"@{DIGEST}", False),
        (f"debian@{DIGEST} debian", False),
    ],
)
def test_an_image_is_named_by_its_digest(image, passes):
    environment = {"PATH": os.environ["PATH"], "BASE": image}
    done = subprocess.run([ROOT / ".ci/pinned", "BASE"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is passes
    assert passes or "BASE is '" in done.stderr


def scripts() -> list[str]:
    """Every script of a CI job, of GitHub and of GitLab."""
    github = [step for param in JOBS for step in param.values[0]["steps"]]
    gitlab = [job for job in GITLAB.values() if isinstance(job, dict)]
    return [step["run"] for step in github if "run" in step] + ["\n".join(job["script"]) for job in gitlab]


def test_ci_takes_images_from_variables_and_checks_their_digests():
    for param in JOBS:
        assert not {"container", "services"} & param.values[0].keys()
    gitlab = [job for job in GITLAB.values() if isinstance(job, dict) and "image" in job]
    assert {job["image"] for job in gitlab} == {"$BASE_IMAGE"}
    assert all(job["script"][0] == ".ci/pinned BASE_IMAGE" for job in gitlab)
    said = scripts()
    assert any("docker pull" in script for script in said)
    for script in said:
        for name in re.findall(r'docker pull --quiet "\$(\w+)"', script):
            assert script.index(f".ci/pinned {name}") < script.index("docker pull")
        if "docker/build.sh" in script:
            assert re.search(r"\.ci/pinned \w*BASE", script[: script.index("docker/build.sh")])
    images = r"\b(debian|ubuntu|python|nvidia/cuda):[\w.-]+(?!@|[\w.@-])"
    for path in (*WORKFLOWS, ROOT / ".gitlab-ci.yml"):
        code = "\n".join(line.partition("#")[0] for line in path.read_text().splitlines())
        assert not re.search(images, code), path


# --- advisories


def test_what_audits_is_installed_by_hash_and_what_it_may_pass_over_says_why():
    first, *entries = re.split(r"^(?=[\w.-]+==)", (ROOT / ".ci/audit-requirements.txt").read_text(), flags=re.M)
    assert first.startswith("# pip-audit==")
    for entry in entries:
        assert re.fullmatch(r"[\w.-]+==[^\n]+(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n", entry), entry[:80]
    for line in (ROOT / ".ci/audit-allowed.txt").read_text().splitlines():
        assert re.fullmatch(r"#.*|[A-Z]+-[\w-]+ +# \S.{10,}", line), line


def test_it_audits_every_lock():
    script = (ROOT / ".ci/audit").read_text()
    locks = [
        *ROOT.glob("requirements*.txt"),
        *ROOT.glob("docker/requirements*.txt"),
        *ROOT.glob(".ci/*requirements.txt"),
    ]
    assert locks
    for lock in locks:
        assert lock.relative_to(ROOT).as_posix() in script
