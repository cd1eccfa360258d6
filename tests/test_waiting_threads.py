"""Threads of a stage that wait leave the cores to those that compute."""

import subprocess
import sys
from pathlib import Path

import pytest

ASK = "import os, olivepress.core.stage; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("given", "said"), [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")]
)
def test_openmp_spins_for_a_moment_unless_the_user_says_otherwise(given, said):
    root = Path(__file__).parents[1]
    found = subprocess.check_output([sys.executable, "-c", ASK], cwd=root, env=given, text=True)
    assert found.strip() == said
