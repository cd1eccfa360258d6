"""What a make variable holds reaches a tool as one argument, whatever is in it; nothing of it is run."""

import subprocess
from pathlib import Path

import pytest
from environment import lend_environment

ROOT = Path(__file__).parents[2]
NASTY = "x y; touch PWNED $(shell touch PWNED) `touch PWNED` $HOME $$ \"q\" 'q' | & *"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The tracked files as they are committed, plus this Makefile."""
    folder = tmp_path_factory.mktemp("make") / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    (folder / "Makefile").write_text((ROOT / "Makefile").read_text())
    lend_environment(folder)
    return folder


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", "--silent", *words], cwd=checkout, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("target", "variable", "said"),
    [
        ("data-head", "DATA", f"{NASTY}: not there."),
        ("doctor", "PROFILE", NASTY),
        ("chat", "FOLDER", f"Directory {NASTY!r} does not exist."),
        ("web", "FOLDER", f"Directory {NASTY!r} does not exist."),
        ("verify-release", "FOLDER", f"Directory {NASTY!r} does not exist."),
        ("release", "SIGN_KEY", f"File {NASTY!r} does not exist."),
    ],
)
def test_a_variable_is_one_argument(checkout, target, variable, said):
    done = make(checkout, target, f"{variable}={NASTY}", "VERSION=1.0.0")
    assert done.returncode != 0
    assert said in done.stderr
    assert not list(checkout.rglob("PWNED"))


@pytest.mark.parametrize(
    ("words", "variable"),
    [
        (["chat"], "TARGET"),
        (["chat"], "ADAPTER"),
        (["web"], "TARGET"),
        (["data-head"], "DATA"),
        (["search"], "MAX_MEGABYTES"),
        (["search"], "STUDY"),
        (["params"], "PROFILE"),
        (["repro"], "PROFILE"),
        (["doctor"], "PROFILE"),
        (["random-model"], "PRESET"),
        (["release"], "VERSION"),
        (["verify-release"], "VERSION"),
        (["verify-release", "VERSION=1.0.0"], "SIGNERS"),
        (["promote", "VERSION=1.0.0"], "STAGE"),
        (["promote", "STAGE=staging"], "VERSION"),
        (["--always-make", ".venv/.ready"], "PYTHON"),
        (["--dry-run", "setup-test-services"], "BIN"),
        (["--dry-run", "setup-test-services"], "AZURITE"),
        (["--dry-run", "setup-test-services"], "SEAWEEDFS"),
        (["--dry-run", "setup-test-services"], "MLFLOW"),
        (["--dry-run", "setup-test-services"], "NEWEST_GENAI"),
        (["report"], "REV"),
        (["image-cpu"], "BASE"),
        (["image-serve"], "BASE"),
        (["image-serve-cuda"], "BASE"),
    ],
)
def test_no_variable_is_run(checkout, words, variable, monkeypatch):
    monkeypatch.setenv("DOCKER", "false")
    done = make(checkout, *words, f"{variable}={NASTY}")
    assert "Traceback" not in done.stderr
    assert not list(checkout.rglob("PWNED")), (done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("words", "variable", "said"),
    [
        (["data-head"], "DATA", "--help: not there"),
        (["release"], "VERSION", "Error: "),
        (["verify-release"], "VERSION", "--help is not released"),
        (["promote", "STAGE=staging"], "VERSION", "--help is not released"),
    ],
)
def test_no_variable_is_taken_for_an_option(checkout, words, variable, said):
    done = make(checkout, *words, f"{variable}=--help")
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize(("target", "variable"), [("data-head", "DATA"), ("params", "PROFILE"), ("chat", "TARGET")])
def test_no_variable_of_the_environment_is_run(checkout, target, variable, monkeypatch):
    monkeypatch.setenv(variable, NASTY)
    assert make(checkout, target).returncode != 0
    assert not list(checkout.rglob("PWNED"))


@pytest.mark.parametrize("target", ["params", "repro", "doctor"])
def test_a_profile_is_one_of_conf(checkout, target):
    (checkout.parent / "evil.yaml").write_text("# @package _global_\nfinetune: {steps: 1}\n")
    done = make(checkout, target, "PROFILE=../../../evil")
    assert done.returncode != 0 and "no such profile" in done.stderr
    assert subprocess.run(["git", "diff", "--quiet", "conf", "params.yaml"], cwd=checkout, check=False).returncode == 0


def test_a_file_whose_name_has_a_space_and_a_quote(checkout):
    path = checkout / "data/my 'own' rows.jsonl"
    path.write_bytes((checkout / "data/travel.jsonl").read_bytes())
    done = make(checkout, "data-head", f"DATA={path.relative_to(checkout)}")
    assert done.returncode == 0, done.stderr
    assert "rows of data/my 'own' rows.jsonl" in done.stdout


def test_a_remote_is_what_was_given(checkout):
    assert make(checkout, "remote", f"URL={NASTY}").returncode == 0
    config = (checkout / ".dvc/config").read_text()
    assert NASTY in config.replace('\\"', '"')
    assert not list(checkout.rglob("PWNED"))
    assert "which? make remote URL=" in make(checkout, "remote").stdout
