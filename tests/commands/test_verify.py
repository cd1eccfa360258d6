"""`make verify` in a small DVC project of its own: what comes out the same, what does not, and the exit status."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from olivepress.tools.reproduce import compare

ROOT = Path(__file__).parents[2]
STEADY = {"cmd": "echo always > steady.txt", "outs": ["steady.txt"]}
RANDOM = {"cmd": "head -c 8 /dev/urandom > random.bin", "outs": ["random.bin"]}


@pytest.fixture
def project(empty_project, tmp_path):
    """A function that makes a project with the stages given, run once, and verifies it."""
    folder = tmp_path / "project"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    def verify(**stages: dict) -> subprocess.CompletedProcess[str]:
        import yaml

        shutil.copytree(empty_project, folder)
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        for command in (
            ["dvc", "repro", "-q"],
            ["git", "add", "-A"],
            ["git", "commit", "-q", "-m", "run"],
        ):
            done = run(*command)
            assert done.returncode == 0, done.stderr
        return run(sys.executable, "-m", "olivepress", "reproduce")

    return verify


def test_what_comes_out_the_same_passes(project):
    done = project(steady=STEADY)
    assert done.returncode == 0, done.stderr
    assert "same       steady.txt  steady" in done.stdout
    assert "1 of 1 outputs reproduced bit for bit" in done.stdout


def test_what_comes_out_different_is_named_and_fails(project):
    done = project(steady=STEADY, random=RANDOM)
    assert done.returncode == 1
    assert "different  random.bin  random" in done.stdout
    assert "same       steady.txt  steady" in done.stdout
    assert "1 of 2 outputs reproduced bit for bit" in done.stdout


def test_without_a_lock_it_says_what_to_do(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "olivepress", "reproduce"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: dvc.lock: not there. Run make repro first: it records what to compare with.\n"


def test_outputs_that_come_and_go_are_told_apart():
    def lock(**outs: str) -> dict:
        return {"stages": {"stage": {"outs": [{"path": path, "md5": digest} for path, digest in outs.items()]}}}

    rows = compare(lock(a="1", b="2", c="3"), lock(a="1", b="9", d="4"))
    assert rows == [
        ("same", "stage", "a"),
        ("different", "stage", "b"),
        ("missing", "stage", "c"),
        ("new", "stage", "d"),
    ]
