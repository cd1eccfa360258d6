"""What all tests share: commands as in a shell with .venv active, and one run of the real pipeline."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["DVC_NO_ANALYTICS"] = "1"
sys.path.insert(0, str(ROOT))

from environment import lend_environment  # noqa: E402 - after the path is set, as all below
from graph import ran  # noqa: E402
from services import azurite  # noqa: E402, F401 - a fixture for every test

from olivepress.verify import clone  # noqa: E402


class Workspace:
    """A clone with its own DVC cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: set[str] = set()  # the stages of the first run
        self.environment: dict[str, str] = {}  # what its commands see besides the tests' own

    def run(self, *command: str | Path, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess:
        """Run a command in the clone."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, input=input, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            said = done.stdout[-3000:] + done.stderr[-3000:]
            raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{said}")
        return done

    def repro(self, *options: str) -> set[str]:
        """`dvc repro`; returns the stages that DVC says it ran."""
        return ran(self.run("dvc", "repro", *options).stdout)

    def changed(self) -> set[str]:
        """The stages that `dvc status` calls changed, by what lies in the clone now."""
        return set(json.loads(self.run("dvc", "status", "--json").stdout))

    def commit(self, message: str) -> None:
        """Commit everything that git tracks or may track."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def write(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The pipeline, run once from an empty cache."""
    folder = tmp_path_factory.mktemp("pipeline") / "clone"
    clone(ROOT, folder)
    lend_environment(folder)
    for key, value in (("user.name", "test"), ("user.email", "test@localhost")):
        subprocess.run(["git", "config", key, value], cwd=folder, check=True)
    space = Workspace(folder)
    space.ran = space.repro("--force")  # which leaves a run cache, too
    return space
