"""What changed between two releases: the quality figures side by side."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from olivepress.errors import PressError

# Figures, not the answers and file lists that the other results hold.
FIGURES = ("evaluate", "finetune", "auto-opt", "prepare", "quantize.json")


def render_changes(root: Path, name: str, version: str, previous: tuple[str, str] | None) -> str:
    """Markdown: every quality figure of the working tree against ``previous``, a (version, git revision).

    Changed figures only; without a previous release, all of them.
    """
    targets = [f"results/quality/{part}" for part in FIGURES]
    if previous:
        found = _dvc(root, "diff", previous[1], "--targets", *targets)
    else:
        shown = _dvc(root, "show", *targets)[""]["data"]
        found = {
            path: {key: {"new": value} for key, value in flat(entry["data"]).items()} for path, entry in shown.items()
        }
    rows = [
        (f"{path.removeprefix('results/quality/').removesuffix('.json')}: {key}", values)
        for path, figures in sorted(found.items())
        for key, values in sorted(figures.items())
        if isinstance(values.get("new", values.get("old")), int | float) and not key.startswith("files.")
    ]
    since = f"Against {previous[0]}" if previous else "The first release"
    lines = [f"# {name} {version}", "", f"{since}. Losses are nats per token on held-out rows.", ""]
    if not rows:
        return "\n".join([*lines, "No quality figure changed.", ""])
    lines += ["| figure | before | now | change |", "|---|---:|---:|---:|"]
    for what, values in rows:
        cells = [_cell(values.get(key)) for key in ("old", "new", "diff")]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _dvc(root: Path, action: str, *arguments: str) -> dict[str, Any]:
    """`dvc metrics diff` or `show` against the working tree; {} if nothing differs."""
    command = [sys.executable, "-m", "dvc", "metrics", action, "--json", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PressError(f"dvc metrics {action}: {' '.join(done.stderr.split())[-300:]}")
    return json.loads(done.stdout)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, keys joined by dots, as DVC's own diff names them."""
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return found


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
