"""tools/check_secrets.py finds what looks like a secret, and lets through what is explained, and no more."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools.check_secrets import ALLOWED, Secret, fits, scan, unexplained

ROOT = Path(__file__).parents[1]
# in parts, so that this file has none
PLANTED = {
    "AWS Access Key": "AKIA" + "Z7QVX2M4LT9KDW3B",
    "Private Key": "-----BEGIN " + "PRIVATE KEY-----",
    "GitHub Token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "Basic Auth Credentials": "https://me:" + "hunter2@example.org/x",
    "Secret Keyword": "pass" + "word = 'hunter2-and-more'",
}


@pytest.mark.parametrize(("kind", "text"), PLANTED.items(), ids=PLANTED)
def test_a_planted_secret_is_found(tmp_path, kind, text):
    (tmp_path / "config.py").write_text(f"a = 1\n# {text}\n" if " = " not in text else f"a = 1\n{text}\n")
    found = scan(str(tmp_path / "config.py"))
    assert (2, kind) in {(one.line, one.type) for one in found}


def test_what_is_explained_passes_and_nothing_else_of_its_kind():
    found = [Secret("a/b.py", 1, "X"), Secret("a/c.py", 2, "X")]
    assert unexplained(found, [{"files": "a/**", "type": "X"}]) == []
    assert unexplained(found, [{"files": "a/*.py", "type": "X", "count": 2}]) == []
    assert unexplained(found, [{"files": "a/b.py", "type": "X", "count": 1}]) == ["a/c.py:2: X."]
    one_more = f"{ALLOWED}: a/**: 1 of 'X' expected, found a/b.py:1, a/c.py:2."
    assert unexplained(found, [{"files": "a/**", "type": "X", "count": 1}]) == [one_more]
    stale = f"{ALLOWED}: gone.py: some of 'X' expected, found none."
    assert unexplained([], [{"files": "gone.py", "type": "X"}]) == [stale]
    assert len(unexplained(found, [{"files": "a/**", "type": "Y"}])) == 3


@pytest.mark.parametrize(
    ("file", "pattern", "expected"),
    [
        ("results/a/b.json", "results/**", True),
        ("results2/a.json", "results/**", False),
        ("requirements-torch.txt", "requirements*.txt", True),
        ("docker/requirements.txt", "requirements*.txt", False),
    ],
)
def test_patterns(file, pattern, expected):
    assert fits(file, pattern) is expected


def test_every_entry_says_why():
    rules = yaml.safe_load((ROOT / ALLOWED).read_text())
    assert rules.keys() == {"skip", "allowed"}
    assert all(len(entry["why"]) > 4 for entries in rules.values() for entry in entries)


def test_a_planted_secret_fails_the_command(tmp_path):
    """In a repository of its own, with an allow-list of its own."""
    (tmp_path / ALLOWED).write_text("skip: []\nallowed: []\n")
    (tmp_path / "notes.txt").write_text("nothing here\n")
    command = [sys.executable, "-m", "tools.check_secrets"]

    def check() -> subprocess.CompletedProcess[str]:
        subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
        environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    done = check()
    assert (done.returncode, done.stdout) == (0, "no secrets in 1 files\n"), done.stderr
    (tmp_path / "notes.txt").write_text(PLANTED["AWS Access Key"])
    done = check()
    assert done.returncode == 1
    assert "notes.txt:1: AWS Access Key." in done.stderr and "Traceback" not in done.stderr
