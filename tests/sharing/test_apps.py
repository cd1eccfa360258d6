"""`olivepress package`: what is in the zip, and its programs, built and run, against `olivepress.load`."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

import olivepress
from olivepress.apps.bundle import write_bundle
from olivepress.apps.node import jinja
from olivepress.core.errors import PressError
from olivepress.core.template import render_prompt
from olivepress.runtime.genai import Model
from olivepress.runtime.integrity import read_manifest

pytestmark = pytest.mark.xdist_group("apps")
ROOT = Path(__file__).parents[2]
NAME = "ft-for-travel-0.1.0-cpu-int4"
QUESTIONS = ("What is the best thing to see in Chicago?", 'a "quoted" \\ question,\nnaïve: 1 < 2 & {3}?')
TEMPLATE = 'Ask "{{it}}": {prompt}\nAnswer: {response}'
MOST = 128  # tokens: what the samples stop at


@pytest.fixture(scope="module")
def release(finished, tmp_path_factory) -> Path:
    """The release that the pipeline made. Copy it, do not change it."""
    folder = tmp_path_factory.mktemp("apps") / "release"
    source = finished.folder / "models/onnx/cpu-int4"
    return Path(shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".gitignore")))


def package(release: Path, out: Path, check: bool = True) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "olivepress", "package", "--folder", release, "--out", out]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def with_template(release: Path, folder: Path) -> Path:
    """The release as it were, had it been trained with a text template."""
    shutil.copytree(release, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["params"]["text"]["template"] = TEMPLATE
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


class Unpacked:
    """A package, unzipped, its programs ready to run."""

    def __init__(self, release: Path, folder: Path) -> None:
        self.zip = folder / "a.zip"
        package(release, self.zip)
        with zipfile.ZipFile(self.zip) as archive:
            archive.extractall(folder)
        self.folder = folder / NAME
        self.release = self.folder / "release"
        template = self.folder / "apps/template.jinja"
        self.more = [str(template)] if template.is_file() else []
        self.environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def build(self) -> None:
        """npm's packages, by the lock; and the C++ program, by the words of the package's own README."""
        npm = ["npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"]
        done = subprocess.run(npm, cwd=self.folder / "apps/javascript", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said = (self.folder / "README.md").read_text().partition("## C++")[2]
        lines = re.search(r"^```sh\n(.*?)^\./chat", said, re.M | re.S)[1].replace("g++ ", "g++ -Wall -Wextra -Werror ")
        shell = ["bash", "-euc", f"{lines}echo $ORT_LIB_PATH"]
        done = subprocess.run(shell, cwd=self.folder, capture_output=True, text=True, check=False, env=self.environment)
        assert done.returncode == 0, done.stderr
        self.environment["ORT_LIB_PATH"] = done.stdout.strip()

    def run(self, language: str, adapter: str | None, question: str) -> tuple[str, int]:
        """What the program of a language says: its text, and the number of tokens."""
        command, place = {
            "python": ([sys.executable, "chat.py"], "apps/python"),
            "javascript": (["node", "chat.mjs"], "apps/javascript"),
            "cpp": (["./chat"], "apps/cpp"),
        }[language]
        words = ["../../release", adapter or "", question, *(self.more if language != "javascript" else [])]
        done = subprocess.run(
            [*command, *words],
            cwd=self.folder / place,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, int(re.search(r"(\d+) tokens\n$", done.stderr)[1])


@pytest.fixture(scope="module")
def unpacked(release, tmp_path_factory):
    found = Unpacked(release, tmp_path_factory.mktemp("package"))
    found.build()
    yield found
    shutil.rmtree(found.folder / "apps/javascript/node_modules")  # a quarter of a gigabyte


@pytest.fixture(scope="module")
def model(release) -> Model:
    return olivepress.load(release, graph="portable")


LANGUAGES = ("python", "javascript", "cpp")


@pytest.mark.parametrize("language", LANGUAGES)
def test_its_programs_say_what_load_says(unpacked, model, language):
    assert model.adapters == ("travel", "cooking")
    for adapter in (None, *model.adapters):
        for question in QUESTIONS:
            expected = model.answer(question, adapter, max_new_tokens=MOST)
            assert unpacked.run(language, adapter, question) == (expected.text, len(expected.tokens))


def test_a_text_template_goes_along(release, unpacked, tmp_path):
    other = Unpacked(with_template(release, tmp_path / "release"), tmp_path)
    model = olivepress.load(other.release, graph="portable")
    assert model.render("why") == 'Ask "{it}": why\nAnswer: '
    for place in ("apps/javascript/node_modules", "apps/cpp/chat"):
        (other.folder / place).symlink_to(unpacked.folder / place)
    other.environment = unpacked.environment
    for question in QUESTIONS:
        expected = model.answer(question, "travel", max_new_tokens=MOST)
        for language in LANGUAGES:
            assert other.run(language, "travel", question) == (expected.text, len(expected.tokens)), language


def test_the_samples_are_short():
    samples = sorted((ROOT / "olivepress/apps").glob("*/chat.*"))
    assert [path.suffix for path in samples] == [".cpp", ".mjs", ".py"]
    for path in samples:
        assert len(path.read_text().splitlines()) <= 40, path


def test_the_versions_are_those_of_the_pipeline(unpacked):
    lock = (ROOT / "requirements.txt").read_text()
    for text in ((unpacked.folder / "README.md").read_text(), (unpacked.folder / "apps/python/chat.py").read_text()):
        pins = re.findall(r"onnxruntime(?:-genai)?==[\d.]+", text)
        assert len(pins) == 2 and all(f"\n{pin} " in lock for pin in pins)
    packages = json.loads((unpacked.folder / "apps/javascript/package.json").read_text())["dependencies"]
    assert packages["onnxruntime-node"] == onnxruntime.__version__


def test_it_is_the_release_with_samples_and_licences(unpacked, release):
    files = {path.relative_to(unpacked.folder).as_posix() for path in unpacked.folder.rglob("*") if path.is_file()}
    of_release = {f"release/{path.relative_to(release).as_posix()}" for path in release.rglob("*") if path.is_file()}
    assert {name for name in files if name.startswith("release/")} == of_release
    assert olivepress.load(unpacked.release, verify="full").adapters == ("travel", "cooking")
    for owner in ("model", "olivepress", "olivepress-operators", "onnxruntime", "onnxruntime-genai"):
        assert "Permission is hereby granted" in (unpacked.folder / f"licences/{owner}/LICENSE").read_text()
    notices = Path(sysconfig.get_path("purelib")) / "onnxruntime_genai/ThirdPartyNotices.txt"
    assert (unpacked.folder / "licences/onnxruntime-genai/ThirdPartyNotices.txt").read_bytes() == notices.read_bytes()
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=unpacked.folder, check=False).returncode == 0
    with zipfile.ZipFile(unpacked.zip) as archive:
        names = archive.namelist()
        sums = archive.read(f"{NAME}/SHA256SUMS").decode()
    assert {line.partition("  ")[2] for line in sums.splitlines()} == {
        name.removeprefix(f"{NAME}/") for name in names
    } - {"SHA256SUMS"}


def test_the_same_release_gives_the_same_bytes(unpacked, release, tmp_path):
    copy = tmp_path / "elsewhere/copy"
    shutil.copytree(release, copy, copy_function=shutil.copy)  # other times
    package(copy, tmp_path / "b.zip")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (unpacked.zip, tmp_path / "b.zip")]
    assert digests[0] == digests[1]
    assert str(tmp_path).encode() not in (tmp_path / "b.zip").read_bytes()


def test_a_release_that_was_changed_is_refused_and_nothing_is_written(release, tmp_path):
    broken, out = tmp_path / "release", tmp_path / "a.zip"
    shutil.copytree(release, broken)
    out.write_text("mine")
    (broken / "model/LICENSE").write_text("another\n")
    done = package(broken, out, check=False)
    assert done.returncode == 1 and "model/LICENSE: has 8 bytes" in done.stderr
    # what changes after it was checked is seen while it is packed
    with pytest.raises(PressError, match="model/LICENSE: was changed while it was read"):
        write_bundle(broken, read_manifest(broken / "manifest.json"), out)
    assert out.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"release", "a.zip"}
    done = package(release, tmp_path / "a.tar", check=False)
    assert "expected a name that ends with .zip" in done.stderr


def changed(release: Path, folder: Path, name: str, content: bytes) -> Path:
    """A copy of a release with another file, which its manifest names."""
    shutil.copytree(release, folder)
    (folder / name).write_bytes(content)
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_target_for_cuda_comes_without_the_sample_that_cannot_run_it(release, tmp_path):
    config = json.loads((release / "model/genai_config.json").read_text())
    config["model"]["decoder"]["session_options"]["provider_options"] = [{"cuda": {}}]
    other = changed(release, tmp_path / "release", "model/genai_config.json", json.dumps(config).encode())
    done = package(other, tmp_path / "a.zip")
    assert "Without the sample in JavaScript: " in done.stderr and "is for cuda" in done.stderr
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert not [name for name in archive.namelist() if "javascript" in name]
        said = archive.read(f"{NAME}/README.md").decode()
    assert "no sample in JavaScript" in said
    cuda = (ROOT / "docker/requirements-cuda12.in").read_text()
    installed = re.search(r"^pip install (.*)$", said, re.M)[1].replace("'", "").split()
    assert set(installed) < set(cuda.split("\n"))


def test_the_python_program_runs_nothing_that_was_changed(unpacked, tmp_path):
    copy = shutil.copytree(unpacked.folder, tmp_path / NAME, ignore=shutil.ignore_patterns("node_modules"))
    (copy / "release/model/LICENSE").write_text("another\n")
    command = [sys.executable, "chat.py", "../../release", "", "hi"]
    done = subprocess.run(command, cwd=copy / "apps/python", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "model/LICENSE: is not what manifest.json says\n"


def test_a_text_template_as_jinja_is_what_it_renders():
    from jinja2 import Environment

    for template in (TEMPLATE, "{prompt}{response}", "{{{{ {prompt} {{% \\ \t{response}"):
        text = (
            Environment(keep_trailing_newline=True)
            .from_string(jinja(template))
            .render(messages=[{"role": "user", "content": "{x} é\n"}])
        )
        assert text == render_prompt(template, "{x} é\n")
