"""`olivepress cluster ray` for real: two workers of this machine, a clone for each group, a DVC remote between them."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from copies import copy_tree
from environment import lend_environment
from graph import EVERYTHING

from olivepress.tools.reproduce import clone

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
# of the groups of both adapters and of the target, early and late, none of them long
AGAIN = {
    stage
    for stage in EVERYTHING
    if re.match("(prepare|convert-adapter|smoke-infer|evaluate(-base)?|gate|register)@", stage)
}
ROW = re.compile(r"^([\w.-]+) +[\d.]+ s +\S+  (.+)$", re.M)


def stale(lock: str) -> str:
    """The lock with another command for every stage: nothing in it can be taken for what is to be made."""
    return re.sub(r"^    cmd: .*(\n      .*)*", "    cmd: stale", lock, flags=re.M)


@pytest.fixture
def space(finished, tmp_path) -> Any:
    """The project with a stale lock and an empty remote."""
    found = type(finished)(tmp_path / "project")
    clone(ROOT, found.folder)
    lend_environment(found.folder)
    found.write("dvc.lock", stale(found.read("dvc.lock")))
    found.run("dvc", "remote", "add", "--default", "--force", "shared", tmp_path / "remote")
    found.run("dvc", "remote", "modify", "shared", "verify", "true")
    return found


@pytest.fixture
def begun(space, finished, tmp_path) -> Any:
    """The same, and the remote has what all stages made, and of all but AGAIN how they did."""
    copy_tree(finished.folder / ".dvc/cache", tmp_path / "remote")
    commands = {stage: yaml.safe_load(finished.read("dvc.lock"))["stages"][stage]["cmd"] for stage in AGAIN}
    for run in (tmp_path / "remote/runs").glob("*/*/*"):
        if yaml.safe_load(run.read_text())["cmd"] in commands.values():
            run.unlink()
    return space


def cluster(space: Any, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "olivepress", "cluster", "ray", *options]
    return subprocess.run(command, cwd=space.folder, capture_output=True, text=True, check=False)


def made(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The stages that ran on the workers, each as often as it did."""
    ran = [stage for _, stages in ROW.findall(done.stdout) for stage in stages.split(", ") if stages != "all taken"]
    # check-params writes what the run cache does not hold, so each clone has its own
    return sorted(stage for stage in ran if stage != "check-params")


def check_whole(done: subprocess.CompletedProcess[str], space: Any, finished: Any) -> None:
    """Two workers did it, this folder has all of it, and nothing of it was made here."""
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert space.read("dvc.lock") == finished.read("dvc.lock")
    assert len(set(re.findall(r", worker (\d+)$", done.stderr, re.M))) >= 2
    assert set(re.findall(r"^Running stage '([^']+)'", done.stdout, re.M)) <= {"check-params"}
    assert not space.changed()
    for path in ("manifest.json", "model/model.onnx.data", "adapters/travel.onnx_adapter"):
        home = f"models/onnx/cpu-int4/{path}"
        assert (space.folder / home).read_bytes() == (finished.folder / home).read_bytes()


def test_two_workers_go_on_from_the_remotes_run_cache_to_one_machines_lock(begun, finished):
    done = cluster(begun, "--workers", "2")
    check_whole(done, begun, finished)
    assert made(done) == sorted(AGAIN)  # each once

    again = cluster(begun)  # the lock says what there is, and all of it is on the remote
    assert again.returncode == 0, again.stderr[-3000:]
    assert made(again) == []


@pytest.mark.nightly
def test_two_workers_make_one_machines_lock(space, finished):
    done = cluster(space, "--workers", "2")
    check_whole(done, space, finished)
    assert made(done) == sorted(EVERYTHING - {"check-params"})


def test_a_group_that_fails_is_named_and_the_others_that_need_it_do_not_begin(begun):
    begun.write("data/travel-tiny.jsonl", '{"prompt": "broken"\n')
    begun.commit("broken")
    done = cluster(begun)
    assert done.returncode == 1
    assert "group adapter-travel: " in done.stderr and "data/travel-tiny.jsonl" in done.stderr, done.stderr[-3000:]
    assert "travel-on-cpu-int4: " not in done.stderr
    assert "Traceback" not in done.stderr
