"""The package as others get it: built, installed into an empty environment with the extra `runtime`, and used there."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from olivepress.cli import COMMANDS, Entry
from olivepress.tools.reproduce import clone

ROOT = Path(__file__).parents[2]
TARGET = "cpu-int4"
TAG = "ft-for-travel@v1.2.0"
LOCK = re.findall(r"^[\w.-]+==[\w.!+-]+", (ROOT / "requirements.txt").read_text(), re.M)


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The project's tracked files as they lie here, in a repository with a release's tag."""
    folder = tmp_path_factory.mktemp("wheel") / "checkout"
    clone(ROOT, folder)
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    run("git", "add", "--all", cwd=folder)
    run("git", *who, "commit", "-q", "--allow-empty", "-m", "as it lies here", cwd=folder)
    run("git", *who, "tag", "-a", "-m", "a release", TAG, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory) -> Path:
    """The wheel, by the build backend that pyproject.toml names."""
    copy = tmp_path_factory.mktemp("build") / "copy"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
    code = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    return copy.parent / run(sys.executable, "-c", code, copy.parent, cwd=copy).stdout.splitlines()[-1]


class Environment:
    """An empty virtual environment."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.bin = folder / "bin"
        self.variables = {**os.environ, "PATH": f"{self.bin}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
        self.variables.pop("PYTHONPATH", None)
        self.versions = folder / "versions.txt"  # the lock's, so that the answers are those of the pipeline
        self.versions.write_text("\n".join(line for line in LOCK if not line.startswith("torch==")) + "\n")

    def install(self, *what: str | Path) -> None:
        self.run("python", "-m", "pip", "install", "-q", "--constraint", self.versions, *what)

    def run(self, command: str, *options: str | Path, **more) -> subprocess.CompletedProcess:
        return run(self.bin / command, *options, env=self.variables, **more)

    def installed(self) -> set[str]:
        listed = self.run("python", "-m", "pip", "list", "--format", "json").stdout
        return {entry["name"].lower() for entry in json.loads(listed)}


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory) -> Environment:
    """The package alone, without an extra."""
    environment = Environment(tmp_path_factory.mktemp("base") / "venv")
    environment.install(wheel)
    return environment


@pytest.fixture(scope="module")
def runtime(wheel, tmp_path_factory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("runtime") / "venv")
    environment.install(f"{wheel}[runtime]")
    return environment


@pytest.fixture
def release(workspace, tmp_path) -> Path:
    return Path(shutil.copytree(workspace.folder / "models/onnx" / TARGET, tmp_path / "ft-for-travel"))


def test_the_wheel_is_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"olivepress"}
    data = {
        "apps/python/chat.py",
        "apps/javascript/chat.mjs",
        "apps/cpp/chat.cpp",
        "serve/static/chat.js",
        "talk/talk.js",
    }
    assert {f"olivepress/{name}" for name in ("runtime/release.py", *data)} <= set(names)


def test_every_subcommand_explains_itself_or_names_its_extra(base, tmp_path):
    assert base.installed() <= {"olivepress", "click", "pyyaml", "pip", "setuptools"}
    for name, entry in COMMANDS.items():
        command = [base.bin / "olivepress", *name.split(), "--help"]
        done = subprocess.run(command, cwd=tmp_path, env=base.variables, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            assert done.stdout.startswith(f"Usage: olivepress {name} ")
        else:
            assert name != "chat"
            assert f"It comes with olivepress[{Entry(*entry).extra}]" in done.stderr


def test_a_tool_without_its_extra_names_it(base, release, tmp_path):
    for words, extra in ((["chat", "--folder", release], "runtime"), (["remote", "push"], "pipeline")):
        command = [base.bin / "olivepress", *words]
        done = subprocess.run(command, cwd=tmp_path, env=base.variables, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"It comes with olivepress[{extra}]: pip install 'olivepress[{extra}]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_release_runs_with_the_runtime_alone(runtime, release, workspace):
    assert not {"torch", "dvc", "transformers", "olive-ai"} & runtime.installed()
    answers = json.loads((workspace.folder / f"results/answers/{TARGET}/travel.json").read_text())
    seen = next(answer for answer in answers if answer["adapter"] == "travel")
    prompt = seen["prompt"]
    code = (
        "import sys, olivepress; model = olivepress.load('ft-for-travel'); "
        "print(model.answer(sys.argv[1], 'travel', max_new_tokens=48).tokens)"
    )
    done = runtime.run("python", "-c", code, prompt, cwd=release.parent)
    assert json.loads(done.stdout) == seen["tokens"]
    options = ["--folder", "ft-for-travel", "--adapter", "travel", "--max-new-tokens", "48"]
    done = runtime.run("olivepress", "chat", *options, cwd=release.parent, input=f"{prompt}\n/reset\n")
    assert seen["text"] in done.stdout
    assert "forgotten" in done.stdout


# --- by git


@pytest.fixture(scope="module")
def builder(base) -> Environment:
    """The same with what builds the package, which an installation by git would else fetch for itself."""
    base.install("setuptools")
    return base


def test_a_releases_tag_installs_as_the_card_says(builder, checkout, release, tmp_path):
    card = (release / "README.md").read_text(encoding="utf-8")
    version = json.loads((release / "manifest.json").read_text())["version"]
    script = re.search(r"^```sh\n(repository=.*?)^```", card, re.M | re.S)[1]
    place = f"file://localhost{checkout}"
    script = re.sub("^repository=.*", f"repository={place}", script).replace(f"@v{version}", "@v1.2.0")
    assert f"refs/tags/{TAG}" in script
    builder.run("python", "-m", "pip", "uninstall", "-q", "-y", "olivepress")
    # what it needs is there: no index is asked
    variables = {**builder.variables, "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}
    run("bash", "-euc", script, cwd=tmp_path, env=variables)
    commit = run("git", "rev-parse", f"{TAG}^{{}}", cwd=checkout).stdout.strip()
    assert commit in builder.run("python", "-m", "pip", "freeze").stdout


def test_uv_takes_the_tag_itself(builder, checkout, tmp_path):
    uv = pytest.importorskip("uv")
    requirement = f"olivepress[runtime] @ git+file://{checkout}@{TAG.replace('@', '%40')}"
    options = ["--no-deps", "--no-build-isolation", "--offline", "--reinstall", "--cache-dir", tmp_path / "cache"]
    command = [uv.find_uv_bin(), "pip", "install", "--python", builder.bin / "python", *options, requirement]
    done = run(*command, cwd=tmp_path, env=builder.variables)
    commit = run("git", "rev-parse", f"{TAG}^{{}}", cwd=checkout).stdout.strip()
    assert commit in done.stdout + done.stderr
