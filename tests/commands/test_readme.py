"""Every command in the README runs: ```sh here, ```sh pipeline in tests/pipeline, where a finished run is at hand."""

import re
import subprocess
from pathlib import Path

import pytest
from environment import lend_environment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)


def test_the_readme_has_commands():
    kinds = re.findall(r"^```sh(.*)$", README, re.M)
    assert set(kinds) == {"", " pipeline"}
    assert kinds.count("") == len(BLOCKS) >= 4


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = set(re.findall(r"^  make ([a-z0-9-]+) ", done.stdout, re.M))
    assert listed == set(re.findall(r"^\.PHONY: ([a-z0-9-]+)$", makefile, re.M))


def test_every_make_target_that_the_readme_names_exists():
    targets = set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", README, re.M))
    assert "repro" in named
    assert named <= targets


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_the_readme_runs(block, tmp_path):
    # what it writes (params.yaml, plots) stays away from the checkout
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "clone")], check=True)
    lend_environment(tmp_path / "clone")
    done = subprocess.run(
        ["bash", "-euc", block], cwd=tmp_path / "clone", capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
