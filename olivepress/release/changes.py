"""What changed between two releases: the metrics of quality side by side, as DVC compares them."""

from pathlib import Path

from olivepress.core.dvc import dvc
from olivepress.core.outputs import read_json

QUALITY = Path("results/quality")
DIGITS = 6  # significant ones, as evaluate rounds its metrics


def render_changes(root: Path, name: str, version: str, previous: tuple[str, str] | None) -> str:
    """Markdown: every metric of quality in the working tree against ``previous``, a (version, git revision).

    Changed ones only; without a previous release, all of them. What the release no longer has is not in it.
    """
    files = sorted(path.relative_to(root) for path in (root / QUALITY).rglob("*.json"))
    since = f"Against {previous[0]}" if previous else "The first release"
    compared = _against(root, previous[1], files) if previous else _all(root, files)
    return f"# {name} {version}\n\n{since}. Losses are nats per answer token.\n\n{compared}\n"


def _against(root: Path, revision: str, files: list[Path]) -> str:
    """DVC's table. The files are named one by one, or it would list those that are gone, too."""
    table = dvc(root, "metrics", "diff", revision, "--md", "--precision", str(DIGITS), "--targets", *files).strip()
    return table if table.count("\n") > 1 else "No metric changed."  # two lines are the header


def _all(root: Path, files: list[Path]) -> str:
    """The metrics by themselves, for which DVC's own table has a column each."""
    from dvc.utils.flatten import flatten
    from tabulate import tabulate

    rows = [(path, *metric) for path in files for metric in flatten(read_json(root / path)).items()]
    return tabulate(rows, ["Path", "Metric", "Value"], tablefmt="github", disable_numparse=True)
