"""A stage's command line in this process: torch and Olive are imported once, not once a case."""

import contextlib
import importlib
import os
import signal
from pathlib import Path

from click.testing import CliRunner, Result

ROOT = Path(__file__).parents[1]


def run_stage(name: str, *options: object) -> Result:
    """`python -m stages.NAME OPTIONS` from the repository's root; anything but an exit is raised, as a bug."""
    main = importlib.import_module(f"stages.{name}").main
    environment, handler = os.environ.copy(), signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.chdir(ROOT):
            return CliRunner().invoke(main, list(map(str, options)), catch_exceptions=False)
    finally:
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGTERM, handler)
