"""A number of threads that params.yaml names gives the same bits, whatever the machine has."""

import os
import subprocess
import sys

import pytest

CODE = """
import hashlib
import torch
from olivepress.core.machine import take_threads
take_threads({number})
x = torch.randn(2048, 512, generator=torch.Generator().manual_seed(0))
sums = torch.stack([x.sum(), x.pow(2).mean()])
print(torch.get_num_threads(), hashlib.sha256(sums.numpy().tobytes()).hexdigest())
"""


def sums(number: int, machine: str) -> list[str]:
    """Threads and hash of two long sums, where OpenMP and MKL believe that the machine has ``machine`` cores."""
    environment = {**os.environ, "OMP_NUM_THREADS": machine, "MKL_NUM_THREADS": machine}
    run = [sys.executable, "-c", CODE.format(number=number)]
    return subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("number", [1, 2])
def test_the_machine_does_not_count(number):
    threads, one = sums(number, "1")
    assert threads == str(number)
    assert sums(number, "4") == [threads, one]


def test_zero_leaves_it_to_the_machine():
    assert sums(0, "1")[0] == "1"
