"""The rows of an adapter: from one file, several, or a data set on the hub; read, checked, and what was found said."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from olivepress.core import report
from olivepress.core.errors import PressError
from olivepress.core.jsonl import BadRow
from olivepress.core.outputs import sha256
from olivepress.data.files import Found, kind_of, read_file
from olivepress.data.formats import Pair, Reader, Row, check_columns
from olivepress.data.hub import read_hub
from olivepress.data.problems import Problems

SAID = 20  # fields that are not used
UNKNOWN = 100  # so many rows may come before the first whose format is known


@dataclass(frozen=True)
class Source:
    """Files, or a data set on the hub, and how their rows are read: see docs/data.md."""

    data: Sequence[str]
    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    split: str = "train"
    subset: str | None = None
    rows: int | None = None
    bad_rows: str = "refuse"

    @property
    def name(self) -> str:
        return self.data[0] if len(self.data) == 1 else f"{self.data[0]} and {len(self.data) - 1} more"

    def inputs(self, rows_digest: str) -> dict[str, Any]:
        """What was read and its SHA-256, for the manifest; of a data set on the hub ``rows_digest``, of its rows."""
        digests = [rows_digest if on_hub(data) else sha256(Path(data)) for data in self.data]
        names = [data if on_hub(data) else Path(data).as_posix() for data in self.data]
        return {"data": names, "sha256": digests} if len(names) > 1 else {"data": names[0], "sha256": digests[0]}


def on_hub(data: str) -> bool:
    return data.startswith("hf://")


def read_source(source: Source, problems: Problems, say: Callable[[str], None] = report.note) -> Iterator[Row | Pair]:
    """The rows, in order; what cannot be read goes to ``problems``. ``say`` gets the format of each file."""
    check_columns(source.columns, source.format)
    return islice(_read(source, problems, say), source.rows)


def _read(source: Source, problems: Problems, say: Callable[[str], None]) -> Iterator[Row | Pair]:
    kinds: dict[type, str] = {}  # of row -> where it was met first
    for data in source.data:
        kind, found = _open(data, source)
        reader = Reader(source.columns, source.format)
        for where, row in _known(found, reader, problems):
            if row is None:
                how = "as format says" if source.format else "found by its fields"
                say(f"{data}: {kind}, {reader.format} ({how}).")
                continue
            kinds.setdefault(type(row), data)
            if len(kinds) > 1:
                other = next(iter(kinds.values()))
                raise PressError(f"{where}: answers and preferences in one data set (others in {other}). Part them.")
            yield row
        for name, count in list(reader.unused.items())[:SAID]:
            say(f"{data}: the field {name[:80]!r} of {count:,} rows is not used.")
        if len(reader.unused) > SAID:
            say(f"{data}: nor are {len(reader.unused) - SAID:,} others.")


def _open(data: str, source: Source) -> tuple[str, Iterator[Found]]:
    """What kind of file it is, and its rows."""
    if on_hub(data):
        return "the hub", read_hub(data, source.split, source.subset)
    path = Path(data)
    if not path.is_file():
        raise PressError(f"{data}: {'not a file' if path.exists() else 'not there'}. Expected a file of rows.")
    try:
        return kind_of(path), read_file(path)
    except OSError as error:
        raise PressError(f"{data}: cannot be read: {error.strerror or error}.") from error


def _known(found: Iterator[Found], reader: Reader, problems: Problems) -> Iterator[tuple[str, Row | Pair | None]]:
    """The rows of one file; None once, before the first, when its format is known."""
    said = False
    unknown: list[tuple[str, BadRow]] = []
    for where, value in found:
        row, problem = None, value
        if not isinstance(value, BadRow):
            try:
                row = reader.read(where, value)
            except BadRow as error:
                problem = error
        if reader.format and not said:
            said = True
            for bad in unknown:
                problems.add(*bad)
            yield where, None
        if row is not None:
            yield where, row
        elif said:
            problems.add(where, problem)
        else:
            unknown.append((where, problem))
            _stop_at(unknown, UNKNOWN)
    if not said:
        _stop_at(unknown, 1)


def _stop_at(unknown: list[tuple[str, BadRow]], most: int) -> None:
    """PressError with the first of ``unknown`` if there are as many as ``most``: it is no file of rows that we know."""
    if len(unknown) >= most:
        where, error = unknown[0]
        raise PressError(f"{where}: {error}")
