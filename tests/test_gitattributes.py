"""A clone has the bytes that were committed, whatever git is told about line endings: DVC hashes them."""

import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def digests(folder: Path) -> dict[str, str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split("\0") if name]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def test_line_endings_are_left_alone(tmp_path):
    clones = {}
    for setting in ("false", "true"):
        clones[setting] = tmp_path / setting
        command = ["git", "-c", f"core.autocrlf={setting}", "clone", "-q", "--config", f"core.autocrlf={setting}"]
        subprocess.run([*command, str(ROOT), str(clones[setting])], check=True)
    plain, translated = digests(clones["false"]), digests(clones["true"])
    assert plain == translated
    assert "data/travel.jsonl" in plain
