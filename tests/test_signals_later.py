"""A signal at the moment of a fork: what it raises is neither lost in a library's callback, nor raised in the fork."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# a callback before the fork sends the signal, so that Python answers it in that callback or in one after
PROGRAM = """
import os, signal, sys

{fork}

def answer(number, frame):
    print("answered", os.getpid() == me, flush=True)
    raise SystemExit(128 + number)

me = os.getpid()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, answer)
os.register_at_fork(before=lambda: (os.kill(me, signal.{name}), sum(range(1000))))
print(work(), flush=True)
"""
FORKS = {
    "limits": "from olivepress.core.limits import apart\ndef work(): return apart(lambda: 'done')",
    "renderer": "from olivepress.runtime.tokenizer_trial import _forked\ndef work(): return _forked(lambda: 'done')",
}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("fork", FORKS)
def test_it_is_answered_once_and_here(fork, name):
    program = PROGRAM.format(fork=FORKS[fork], name=name)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "answered True\n"
    assert done.returncode == 128 + (15 if name == "SIGTERM" else 2)
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr
