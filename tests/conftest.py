"""What all tests share: commands as in a shell with .venv active, and one run of the real pipeline."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["DVC_NO_ANALYTICS"] = "1"
sys.path.insert(0, str(ROOT))

from services import azurite  # noqa: E402, F401 - a fixture for every test

from olivepress.verify import clone  # noqa: E402  (after the path is set)


class Workspace:
    """A clone with its own DVC cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: set[str] = set()  # the stages of the first run
        self.environment: dict[str, str] = {}  # what its commands see besides the tests' own

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command in the clone; its own modules come first."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder), **self.environment}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        if check and done.returncode:
            said = done.stdout[-3000:] + done.stderr[-3000:]
            raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{said}")
        return done

    def repro(self, *options: str) -> set[str]:
        """`dvc repro`; returns the stages that DVC says it ran."""
        return set(re.findall(r"^Running stage '([^']+)':", self.run("dvc", "repro", *options).stdout, re.M))

    def changed(self) -> set[str]:
        """The stages that `dvc status` calls changed, by what lies in the clone now."""
        return set(json.loads(self.run("dvc", "status", "--json").stdout))

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def write(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The pipeline, run once from an empty cache."""
    folder = tmp_path_factory.mktemp("pipeline") / "clone"
    clone(ROOT, folder)
    space = Workspace(folder)
    space.ran = space.repro("--force", "--no-run-cache")
    return space
