"""What all tests share: markers by folder, commands as in a shell with .venv active, one run of the real pipeline."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# the folder of a test -> its marker, in the order in which they run
MARKERS = {
    "fuzz": "fuzz",  # first: it forks for every template, which costs more the more a process holds
    ".": "unit",
    "inputs": "inputs",
    "gpu": "gpu",
    "browser": "browser",
    "commands": "commands",
    "sources": "sources",
    "azure_ml": "azure",
    "pipeline": "pipeline",
    "serve": "serve",
    "sharing": "sharing",
    "container": "container",
}
if "PYTEST_XDIST_WORKER" in os.environ:
    # as many workers as cores: two threads each would wait for one another, so one; where params.yaml says two, they
    # leave the core while they wait (both workers in finetune: 19.5 s each, 26 with stages' own spinning)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["GOMP_SPINCOUNT"] = "0"
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["DVC_NO_ANALYTICS"] = "1"
sys.path.insert(0, str(ROOT))

from copies import copy_tree  # noqa: E402 - after the path is set, as all below
from environment import lend_environment  # noqa: E402
from filelock import FileLock  # noqa: E402
from graph import ran  # noqa: E402
from services import azurite  # noqa: E402, F401 - a fixture for every test
from warm import Warm, takes  # noqa: E402

from olivepress.tools.reproduce import clone  # noqa: E402


@functools.cache
def warm() -> Warm:
    """This worker's own, from its first such command to its end."""
    server = Warm()
    atexit.register(server.close)
    return server


class Workspace:
    """A clone with its own DVC cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: set[str] = set()  # the stages of the first run
        self.asked = ""  # what they asked the network for
        self.environment: dict[str, str] = {}  # what its commands see besides the tests' own

    def run(self, *command: str | Path, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess:
        """Run a command in the clone; `dvc` and `olivepress` from a process that has them loaded."""
        environment = {**os.environ, **self.environment}
        if words := takes(list(map(str, command)), environment):
            done = warm().run(words, self.folder, environment, input)
        else:
            done = subprocess.run(
                command, cwd=self.folder, env=environment, input=input, capture_output=True, text=True, check=False
            )
        if check and done.returncode:
            said = done.stdout[-3000:] + done.stderr[-3000:]
            raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{said}")
        return done

    def copy(self, folder: Path) -> "Workspace":
        """Another of the same, DVC cache included."""
        copy_tree(self.folder, folder)
        return type(self)(folder)

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


def folder_of(item: pytest.Item) -> str:
    """The folder of a test below tests/."""
    return item.path.relative_to(ROOT / "tests").parent.as_posix()


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test by its folder, and put the quick ones first, but for fuzz.

    With workers (`make test`), tests with the same ``xdist_group`` stay on one: they share what is costly to make. The
    largest groups begin, so that one worker runs the pipeline while others do what needs none. The unit tests come last
    there: a worker has three tests before it at any time, and three long ones would keep the others waiting.
    """
    for item in items:
        item.add_marker(MARKERS[folder_of(item)])
        if "workspace" in item.fixturenames and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.xdist_group("workspace"))
    order = list(MARKERS)
    if "PYTEST_XDIST_WORKER" in os.environ:
        order.append(order.pop(order.index(".")))
    items.sort(key=lambda item: order.index(folder_of(item)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out a slow test that has not begun by $PRESS_SLOW_UNTIL, seconds since 1970.

    `.ci/run` is given so long, and machines differ by three times: better all of the others than none of them.
    """
    until = os.environ.get("PRESS_SLOW_UNTIL")
    if until and item.get_closest_marker("slow") and time.time() > float(until):
        pytest.skip(f"no time left: {item.nodeid}")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Stop if pytest-xdist does not group, as 3.8 does not with pytest 9.2: each worker would make everything."""
    if session.config.getoption("loadgroup", default=False):
        alone = [item for item in session.items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid]
        if alone:
            raise pytest.UsageError(f"{alone[0].nodeid}: pytest-xdist did not group it")


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """(name, make) -> a folder that ``make`` filled, once for all workers: to be copied, not changed.

    $PRESS_TEST_ONCE: a folder where it outlives the run, for another one on the same commit.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    if kept := os.environ.get("PRESS_TEST_ONCE"):
        base = Path(kept)

    def get(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = base / f"once-{name}", base / f"once-{name}.done"
        with FileLock(base / f"once-{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker whose attempt failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def empty_project(once) -> Path:
    """A git repository with DVC and nothing else, for a DVC project of a few lines. Copy it, do not change it."""

    def init(folder: Path) -> None:
        for line in (
            "git init -q -b main",
            "git config user.name t",
            "git config user.email t@localhost",
            "dvc init -q",
        ):
            subprocess.run(line.split(), cwd=folder, check=True)

    return once("empty-project", init)


@pytest.fixture(scope="session")
def finished(once) -> Workspace:
    """The pipeline, run once from an empty cache, which leaves a run cache, too. Copy it, do not change it."""

    def run_pipeline(folder: Path) -> None:
        space = Workspace(folder / "clone")
        clone(ROOT, space.folder)
        lend_environment(space.folder)
        for key, value in (("user.name", "test"), ("user.email", "test@localhost")):
            space.run("git", "config", key, value)
        (folder / "network").touch()
        space.environment = {"PYTHONPATH": str(ROOT / "tests/no_network"), "HF_HUB_OFFLINE": "0"}
        space.environment["PRESS_NETWORK_LOG"] = str(folder / "network")
        (folder / "ran.json").write_text(json.dumps(sorted(space.repro("--force"))))

    folder = once("pipeline", run_pipeline)
    space = Workspace(folder / "clone")
    space.ran = set(json.loads((folder / "ran.json").read_text()))
    space.asked = (folder / "network").read_text()
    return space


@pytest.fixture(scope="session")
def workspace(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the finished pipeline, for tests that put back what they change."""
    return finished.copy(tmp_path_factory.mktemp("workspace") / "clone")
