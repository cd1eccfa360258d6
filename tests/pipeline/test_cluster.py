"""`olivepress cluster ray` for real: two workers of this machine, a clone for each group, a DVC remote between them."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from environment import lend_environment
from graph import EVERYTHING

from olivepress.tools.reproduce import clone

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
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


def cluster(space: Any, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "olivepress", "cluster", "ray", *options]
    return subprocess.run(command, cwd=space.folder, capture_output=True, text=True, check=False)


def test_two_workers_make_one_machines_lock(space, finished):
    done = cluster(space, "--workers", "2")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert space.read("dvc.lock") == finished.read("dvc.lock")
    ran = {name: stages.split(", ") for name, stages in ROW.findall(done.stdout)}
    # check-params writes what the run cache does not hold, so each clone has its own
    made = [stage for stages in ran.values() for stage in stages if stage != "check-params"]
    assert sorted(made) == sorted(EVERYTHING - {"check-params"})  # each once, on one of the workers
    assert len(set(re.findall(r", worker (\d+)$", done.stderr, re.M))) >= 2
    # what came here is whole, and nothing of it was made here
    assert set(re.findall(r"^Running stage '([^']+)'", done.stdout, re.M)) <= {"check-params"}
    assert not space.changed()
    for path in ("manifest.json", "model/model.onnx.data", "adapters/travel.onnx_adapter"):
        home = f"models/onnx/cpu-int4/{path}"
        assert (space.folder / home).read_bytes() == (finished.folder / home).read_bytes()

    again = cluster(space)  # the lock says what there is, and all of it is on the remote
    assert again.returncode == 0, again.stderr[-3000:]
    assert {stages for _, stages in ROW.findall(again.stdout)} == {"all taken"}


def test_a_group_that_fails_is_named_and_the_others_that_need_it_do_not_begin(space):
    space.write("data/travel-tiny.jsonl", '{"prompt": "broken"\n')
    space.commit("broken")
    done = cluster(space)
    assert done.returncode == 1
    assert "group adapter-travel: " in done.stderr and "data/travel-tiny.jsonl" in done.stderr, done.stderr[-3000:]
    assert "travel-on-cpu-int4: " not in done.stderr
    assert "Traceback" not in done.stderr
