"""Files of rows: JSON lines, a JSON array, CSV and Parquet, read a row at a time in bounded memory."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from olivepress.core.errors import PressError
from olivepress.core.git import refuse_pointer
from olivepress.core.jsonl import (
    LONGEST_ROW,
    UTF8_MARK,
    BadRow,
    decode_line,
    parse_object,
    read_json_lines,
    read_lines,
    refuse_utf16,
)
from olivepress.core.limits import TooMuch, each_apart

# (file:line or file: row N, the row or what is wrong with it)
Found = tuple[str, dict[str, Any] | BadRow]
CHUNK = 2**16
# What 256 rows of a Parquet file may take: with the first, a whole row group is read, some hundred MB as a rule.
BATCH_SECONDS = 60
BATCH_MEMORY = 2**34
DELIMITERS = {",": "Commas", ";": "Semicolons", "\t": "Tabs"}
PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\3\4": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"(\xb5/\xfd": "zstd",
    b'\4"M\x18': "lz4",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}
# Kinds of files that hold rows, or look as if they did, and are not read.
OTHERS = {
    b"ARROW1": "an Arrow file",
    b"FEA1": "a Feather file",
    b"Obj\1": "an Avro file",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF",
}


def bounded(value: dict[str, Any]) -> dict[str, Any] | BadRow:
    """A row that a library has read, if it is no longer than a line may be."""
    size, todo = 0, [value]
    while todo:
        one = todo.pop()
        if isinstance(one, (str, bytes)):
            size += len(one)
        elif isinstance(one, (dict, list)):
            todo += one.values() if isinstance(one, dict) else one
    return value if size <= LONGEST_ROW else BadRow(f"longer than {LONGEST_ROW:,} characters. Split or remove it.")


def kind_of(path: Path) -> str:
    """What a file is, "json lines", "json array", "csv" or "parquet": by its first bytes, then by its name."""
    with path.open("rb") as file:
        start = file.read(CHUNK)
    if not start.strip():
        raise PressError(f"{path}: the data set is empty. Expected rows.")
    refuse_pointer(path)
    packed = next((name for magic, name in PACKED.items() if start.startswith(magic)), None)
    if packed:
        raise PressError(f"{path}: packed ({packed}). Unpack it: the rows are read as they lie in the file.")
    other = next((name for magic, name in OTHERS.items() if start.startswith(magic)), None)
    if other:
        raise PressError(f"{path}: {other}. Save the rows as JSON lines, CSV or Parquet.")
    if start.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
        return "parquet"
    first = start.removeprefix(UTF8_MARK).lstrip()[:1]
    if path.suffix.lower() in (".csv", ".tsv") and first != b"{":
        return "csv"
    return "json array" if path.suffix.lower() == ".json" and first == b"[" else "json lines"


def read_file(path: Path) -> Iterator[Found]:
    """Every row of a file with its place, in order; PressError where the file cannot be read on."""
    reader = {"json lines": _json_lines, "json array": _json_array, "csv": _csv, "parquet": _parquet}[kind_of(path)]
    try:
        yield from reader(path)
    except OSError as error:
        raise PressError(f"{path}: cannot be read: {error.strerror or error}.") from error


def _json_lines(path: Path) -> Iterator[Found]:
    good = 0
    problems: list[tuple[str, BadRow]] = []
    for where, value in read_json_lines(path, LONGEST_ROW):
        if good or len(problems) > 1000:
            yield where, value
        elif isinstance(value, BadRow) and path.suffix.lower() == ".json":
            raise PressError(f"{where}: {value} Or expected an array of such objects: [{{…}}, {{…}}].")
        elif isinstance(value, BadRow):  # held back: perhaps it is no file of this kind at all
            problems.append((where, value))
        else:
            good = 1
            yield from problems
            problems = []
            yield where, value
    if problems and not good and len(problems) <= 1000:
        where, problem = problems[0]
        more = "" if len(problems) == 1 else f" No line of {len(problems)} is a row: is the file of this kind?"
        raise PressError(f"{where}: {problem}{more}")


# What can begin or end something in JSON. A string is passed over whole; one without its last quote goes on in the next
# chunk.
TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*("?)|[\[\]{},]', re.S)


def _json_array(path: Path) -> Iterator[Found]:
    """The objects of one JSON array, each parsed alone: a broken one is named, what follows it cannot be found."""
    with path.open("rb") as file:
        refuse_utf16(path, file)
        for line, element in _elements(path, file):
            where = f"{path}:{line}"
            try:
                yield where, parse_object(decode_line(element))
            except BadRow as error:
                yield where, error


def _elements(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(line, bytes) of each element of the array in ``file``."""
    buffer = file.read(CHUNK).removeprefix(UTF8_MARK)
    line, depth, place, start = 1, 0, buffer.index(b"["), 0
    after_comma = False
    while True:
        token = TOKEN.search(buffer, place)
        if token is None or (token[0].startswith(b'"') and not token[1]):
            begun = len(buffer) - len(buffer[start:].lstrip())
            line += buffer.count(b"\n", 0, begun)
            more = file.read(CHUNK)
            if not more:
                break
            if len(buffer) - begun > LONGEST_ROW:
                raise PressError(f"{path}:{line}: a row is longer than {LONGEST_ROW:,} bytes. Split or remove it.")
            place = (token.start() if token else len(buffer)) - begun
            buffer, start = buffer[begun:] + more, 0
            continue
        place = token.end()
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token[0], 0)
        if (depth == 1 and token[0] == b",") or depth == 0:
            element = buffer[start : token.start()]
            if depth == 0 and after_comma and not element.strip():
                line += buffer.count(b"\n", 0, place)
                raise PressError(f"{path}:{line}: broken JSON: a comma and then the array's end. Take the comma out.")
            after_comma = token[0] == b","
            if element.strip() or token[0] == b",":
                blank = len(element) - len(element.lstrip())
                yield line + buffer.count(b"\n", 0, start + blank), element.strip()
            start = place
            if depth == 0 and token[0] != b"]":
                line += buffer.count(b"\n", 0, place)
                raise PressError(f"{path}:{line}: broken JSON: the array ends with {token[0].decode()!r}.")
            if depth == 0:
                if (buffer[place:] + file.read(CHUNK)).strip():
                    raise PressError(f"{path}: text after the array's end. Expected one array of objects.")
                return
        elif depth == 1 and token[0] == b"[":
            start = place
    raise PressError(f"{path}:{line}: broken JSON: the array does not end. Is the file whole?")


def _csv(path: Path) -> Iterator[Found]:
    """Rows under the names of the first line; quoted fields may hold line breaks. The delimiter is the header's."""
    csv.field_size_limit(LONGEST_ROW)
    with path.open("rb") as file:
        refuse_utf16(path, file)
        header = next(_decoded(path, file))
        delimiter = max(DELIMITERS, key=re.sub(r'"[^"]*"', "", header).count)
        file.seek(0)
        lines = _decoded(path, file)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        names: list[str] | None = None
        while True:
            where = f"{path}:{reader.line_num + 1}"
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise PressError(
                    f"{where}: broken CSV ({error}). A field with a quote, a delimiter or a line break stands in "
                    "double quotes, and a quote in it is written twice."
                ) from error
            if not any(field.strip() for field in fields):
                continue
            if names is None:
                names = [field.strip() for field in fields]
                if len(set(names)) < len(names) or not all(names):
                    raise PressError(f"{where}: the first line names the columns, each once; found {names[:20]}.")
            elif len(fields) != len(names):
                said = DELIMITERS[delimiter]
                yield (
                    where,
                    BadRow(
                        f"{len(fields)} fields, the first line names {len(names)} columns. {said} part fields; "
                        "one that holds such a character stands in double quotes."
                    ),
                )
            else:
                yield where, dict(zip(names, fields, strict=True))


def _decoded(path: Path, file: BinaryIO) -> Iterator[str]:
    for number, line in read_lines(file, LONGEST_ROW):
        try:
            yield decode_line(line)
        except BadRow as error:
            raise PressError(f"{path}:{number}: {error}") from error


def _parquet(path: Path) -> Iterator[Found]:
    """Rows as Arrow reads them, in a process of its own: a damaged file may have its library crash, or not end."""
    import pyarrow.parquet  # noqa: F401  once, and not in every process

    number = 0
    try:
        for rows in each_apart(lambda: _batches(path), BATCH_SECONDS, memory=BATCH_MEMORY):
            for row in rows:
                number += 1
                yield f"{path}: row {number}", row
    except TooMuch as error:
        raise PressError(f"{path}: no Parquet file that can be read, after row {number}: it {error}.") from error


def _batches(path: Path) -> Iterator[list[dict[str, Any] | BadRow]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise PressError(f"{path}: expected columns with a name each; found {', '.join(names[:20])}.")
            for batch in file.iter_batches(batch_size=256):
                rows = list(_rows(batch))
                yield rows
                number += len(rows)
    except pyarrow.ArrowException as error:
        reason = " ".join(str(error).split())[:200]
        raise PressError(f"{path}: no Parquet file that can be read, after row {number}: {reason}") from error


def _rows(batch: Any) -> Iterator[dict[str, Any] | BadRow]:
    """The rows of a batch of Arrow's; one with a value that Python cannot hold is a BadRow."""
    try:
        yield from map(bounded, batch.to_pylist())
    except Exception:  # a text that is not UTF-8, a date beyond Python's years, a time zone that nobody knows
        for place in range(batch.num_rows):
            try:
                row = bounded(batch.slice(place, 1).to_pylist()[0])
            except Exception as error:
                row = BadRow(f"a value that cannot be read ({str(error)[:200]}). Correct or remove it.")
            yield row
