"""No key, token or password lies in git: detect-secrets on every file, but for what .secrets-allowed.yaml explains.

python -m tools.check_secrets (`make secrets`). Nothing is sent anywhere: what looks like a key is not tried out.
"""

import os
import subprocess
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import click
import yaml

from olivepress.core.errors import PressError

ALLOWED = Path(".secrets-allowed.yaml")
# detect-secrets' filter that asks the service whose key it may be
VERIFIES = "detect_secrets.filters.common.is_ignored_due_to_verification_policies"


class Secret(NamedTuple):
    """What looks like one: where, and what kind."""

    file: str
    line: int
    type: str


def scan(file: str) -> list[Secret]:
    """What looks like a secret in one file."""
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import default_settings

    with default_settings() as settings:
        settings.disable_filters(VERIFIES)
        return [Secret(file, found.line_number, found.type) for found in scan_file(file)]


def fits(file: str, pattern: str) -> bool:
    """Whether a path is of a pattern: ``*`` within a folder, ``**`` at its end for all below one."""
    if pattern.endswith("/**"):
        return file.startswith(pattern.removesuffix("**"))
    return Path(file).match(pattern) and file.count("/") == pattern.count("/")


def unexplained(found: Iterable[Secret], allowed: list[dict[str, Any]]) -> list[str]:
    """A line for each secret that no entry of ``allowed`` explains, and for each entry that explains none or others."""
    rest, problems = list(found), []
    for entry in allowed:
        explained = [one for one in rest if one.type == entry["type"] and fits(one.file, entry["files"])]
        rest = [one for one in rest if one not in explained]
        expected = entry.get("count", len(explained) or "some")
        if len(explained) != expected:
            places = ", ".join(f"{one.file}:{one.line}" for one in explained) or "none"
            problems.append(f"{ALLOWED}: {entry['files']}: {expected} of {entry['type']!r} expected, found {places}.")
    return [*(f"{one.file}:{one.line}: {one.type}." for one in rest), *problems]


@click.command()
def main() -> None:
    """Fail if a file in git has what looks like a secret and is not explained."""
    rules = yaml.safe_load(ALLOWED.read_text(encoding="utf-8"))
    skipped = [entry["files"] for entry in rules["skip"]] + [str(ALLOWED)]
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    every = [file for file in listed.split("\0") if file]
    files = [file for file in every if not any(fits(file, pattern) for pattern in skipped)]
    if stale := [pattern for pattern in skipped if not any(fits(file, pattern) for file in every)]:
        raise PressError(f"{ALLOWED}: skip: {', '.join(stale)}: there is no such file in git.")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = [one for some in pool.map(scan, files, chunksize=8) for one in some]
    if problems := unexplained(found, rules["allowed"]):
        raise PressError(
            "\n".join(["these look like secrets:", *problems])
            + f"\nTake them out, and change those that were pushed; what is none is explained in {ALLOWED}."
        )
    click.echo(f"no secrets in {len(files)} files")


if __name__ == "__main__":
    main()
