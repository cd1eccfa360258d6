"""How many threads inference may take."""

import os
import subprocess
import sys

import joblib

from olivepress.runtime.threads import thread_limit


def test_a_part_of_the_processors_is_counted():
    core = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, [{core}]); from olivepress.runtime.threads import *; print(thread_limit())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == ("1\n" if os.cpu_count() > 1 else "None\n")


def test_all_of_the_machine_is_no_limit(monkeypatch):
    allowed = joblib.cpu_count()  # of a machine that has no more, then
    monkeypatch.setattr(os, "cpu_count", lambda: allowed)
    assert thread_limit() is None
