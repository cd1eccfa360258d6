"""Every command in the README runs, but those that need what a test machine lacks (```sh no-test)."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)


def test_the_readme_has_commands():
    assert len(BLOCKS) >= 4


def test_every_make_target_that_the_readme_names_exists():
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.M))
    assert "repro" in named
    assert named <= targets


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_the_readme_runs(block, tmp_path):
    # what it writes (params.yaml, plots) stays away from the checkout
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "clone")], check=True)
    (tmp_path / "clone/.venv").symlink_to(ROOT / ".venv")
    os.utime(tmp_path / "clone/requirements.txt", (0, 0))  # older than .venv, or make would build it again
    done = subprocess.run(
        ["bash", "-euc", block], cwd=tmp_path / "clone", capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
