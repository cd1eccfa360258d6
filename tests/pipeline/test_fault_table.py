"""A few of the faults of tools/faults, in the finished pipeline: what the user had is still there, and it runs on."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.faults.__main__ import _some
from tools.faults.cases import Case

ROOT = Path(__file__).parents[2]


def faults(finished, *options: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "tools.faults", "--finished", finished.folder, *options]
    return subprocess.run(list(map(str, line)), cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.xdist_group("workspace")
def test_some_faults_hold(finished):
    done = faults(finished, "--stage", "register", "--cases", "3", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "3 of 3 cases held, seed 1"


def test_a_choice_has_some_of_every_kind_and_is_the_same_for_the_same_seed():
    import random

    cases = [Case(kind, "prepare", str(number), lambda bench: "") for kind in "abc" for number in range(9)]
    chosen = _some(cases, 6, random.Random(3))
    assert sorted(case.kind for case in chosen) == list("aabbcc")
    assert chosen == _some(cases, 6, random.Random(3))
    assert chosen != _some(cases, 6, random.Random(4))
    assert _some(cases, None, random.Random(0)) == cases
