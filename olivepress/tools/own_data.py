"""What `olivepress new` makes of the data that it is given: one path that DVC can watch, and what is known of the rows.

DVC watches a path, no list and no address. So several files become a folder of links to them, and a data set on the hub
becomes a data set file (docs/data.md), written once, when the profile is.
"""

import heapq
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output, remove
from olivepress.data.dataset import NAME, source_of
from olivepress.data.formats import Pair, Row
from olivepress.data.problems import Problems
from olivepress.data.sources import Source, on_hub, read_source

FROM_HUB = 1000  # rows of the hub that are looked at: they come over the network
LONGEST = 64  # rows, of which the tokens are counted


@dataclass(frozen=True)
class Seen:
    """Rows of a data set: how many (on the hub: as many as were looked at), its first ones, and its longest."""

    count: int
    first: list[Row | Pair]
    longest: list[Row | Pair]

    @classmethod
    def of(cls, rows: Iterator[Row | Pair] | list[Row | Pair]) -> "Seen":
        """Look at ``rows``, of which some stay in memory."""
        rows = iter(rows)
        first, count, longest = list(islice(rows, 2)), 0, []
        for row in chain(first, rows):
            entry = (len(text_of(row)), -count, row)
            count += 1
            (heapq.heappush if len(longest) < LONGEST else heapq.heappushpop)(longest, entry)
        return cls(count, first, [row for *_, row in longest])


def text_of(row: Row | Pair) -> str:
    """All that a row says, of two answers the longer one."""
    if isinstance(row, Pair):
        messages = [*row.prompt, *max(row.chosen, row.rejected, key=lambda answer: len(answer[0]["content"]))]
    else:
        messages = row.messages
    return "\n".join(message["content"] for message in messages)


def look(given: tuple[str, ...]) -> Seen:
    """Read the data; PressError names every row that cannot be used."""
    if len(given) > 1:
        for path in given:
            if on_hub(path) or not Path(path).is_file():
                raise PressError(f"--data {path}: beside others. Several are files; else give one alone.")
        source = Source(given)
    else:
        source = Source(given, rows=FROM_HUB) if on_hub(given[0]) else source_of(given[0])
    problems = Problems(source.name)
    seen = Seen.of(read_source(source, problems, say=lambda text: None))
    problems.raise_any()
    if not seen.count:
        raise PressError(f"{source.name}: the data set is empty. Expected rows.")
    return seen


@contextmanager
def placed(given: tuple[str, ...], name: str, root: Path, *, force: bool) -> Iterator[str]:
    """The path that a profile names for the data: their own, or what is written below data/ and called ``name``.

    What was written goes again if the block fails.
    """
    if len(given) == 1 and not on_hub(given[0]):
        yield in_project(Path(given[0]), root)
        return
    place = root / "data" / (name if len(given) > 1 else f"{name}.yaml")
    if place.exists() and not force:
        raise PressError(f"data/{place.name}: there already. Choose another --adapter, or write over it with --force.")
    with atomic_output(place) as scratch:
        if len(given) > 1:
            _link(given, scratch, place, root)
        else:
            scratch.write_text(
                f"# docs/data.md: split, subset, columns, and rows, of which the first so many are fetched\n"
                f"hub: {given[0]}\n",
                encoding="utf-8",
            )
    try:
        yield f"data/{place.name}"
    except BaseException:
        remove(place)
        raise


def _link(given: tuple[str, ...], scratch: Path, place: Path, root: Path) -> None:
    """Links to the files, relative ones inside the project, and their order."""
    scratch.mkdir()
    names = [Path(path).name for path in given]
    for path, file in zip(given, names, strict=True):
        if names.count(file) > 1:
            raise PressError(f"--data {path}: two of the files are called {file}. Rename one.")
        target = Path(path).resolve()
        inside = target.is_relative_to(root.resolve())
        (scratch / file).symlink_to(os.path.relpath(target, place.resolve()) if inside else target)
    listed = "".join(f"  - {_quoted(file)}\n" for file in names)
    (scratch / NAME).write_text(f"# docs/data.md\nfiles:\n{listed}", encoding="utf-8")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def in_project(path: Path, root: Path) -> str:
    """A path relative to the project if it lies there, else absolute."""
    whole = path.resolve()
    return whole.relative_to(root.resolve()).as_posix() if whole.is_relative_to(root.resolve()) else whole.as_posix()
