"""JSON lines, checked line by line and in bounded memory."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from olivepress.core.errors import PressError

# Bytes of a line. A row of data of a MiB has a quarter of a million tokens, more than any model here reads; as token
# ids it takes up to eight times as much.
LONGEST_ROW = 2**20
LONGEST_LINE = 16 * LONGEST_ROW
# Drawn as nothing, though they are letters or symbols to Unicode.
BLANK = "\u115f\u1160\u2800\u3164\uffa0"
UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class BadRow(ValueError):
    """One row is wrong; the text says how. The reader goes on with the next."""


def read_lines(file: BinaryIO, longest: int = LONGEST_LINE) -> Iterator[tuple[int, bytes | BadRow]]:
    """Yield (number, line) without a byte order mark; a line of more than ``longest`` bytes is a BadRow."""
    number = 0
    while line := file.readline(longest + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(UTF8_MARK)
        if len(line) <= longest:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(longest)
        yield number, BadRow(f"longer than {longest:,} bytes. Split or remove it.")


def decode_line(line: bytes | BadRow) -> str:
    """A line as text; BadRow if it is one, or not UTF-8."""
    if isinstance(line, BadRow):
        raise line
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRow(
            f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}, which is not UTF-8. "
            "Save the file as UTF-8."
        ) from error


def parse_json(text: str, expected: str = "") -> Any:
    """The JSON in ``text``; BadRow for anything else, duplicate keys and what Python cannot hold included."""
    try:
        return json.loads(text.rstrip(), object_pairs_hook=unique, parse_constant=no_number)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} of the row, " if error.lineno > 1 else ""
        raise BadRow(f"{place}column {error.colno}: broken JSON ({error.msg}). {expected}".rstrip()) from error
    except RecursionError as error:
        raise BadRow("nested too deep. A row is an object of texts, or of messages.") from error
    except BadRow:
        raise
    except ValueError as error:  # Python's limit on the digits of a whole number
        raise BadRow(f"a number that is too long ({str(error).partition(';')[0]}). Quote it, or remove it.") from error


def parse_object(text: str) -> dict[str, Any]:
    """As `parse_json`, and BadRow for what is no object."""
    value = parse_json(text, "Expected one object a line.")
    if not isinstance(value, dict):
        raise BadRow(f"found {type(value).__name__}, expected a JSON object with fields.")
    return value


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON as a dict, for json.loads; BadRow for a key that is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise BadRow(f"field {twice[:80]!r} is there twice. Keep one.")
    return found


def no_number(name: str) -> None:
    """BadRow for NaN and the infinities, which json.loads would take."""
    raise BadRow(f"{name} is no JSON. Write a number or null.")


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file:line", object) for each line of a JSON-lines file that is not blank.

    Raises PressError for a byte that is not UTF-8, broken JSON, a line that is no object or an empty file.
    """
    count = 0
    for where, value in read_json_lines(path):
        if isinstance(value, BadRow):
            raise PressError(f"{where}: {value}")
        count += 1
        yield where, value
    if not count:
        raise PressError(f"{path}: the data set is empty. Expected JSON lines, one object a line.")


def read_json_lines(path: Path, longest: int = LONGEST_LINE) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    """As `read_objects`, but a bad line is yielded as what is wrong with it, and an empty file yields nothing."""
    with path.open("rb") as file:
        refuse_utf16(path, file)
        for number, line in read_lines(file, longest):
            where = f"{path}:{number}"
            try:
                text = decode_line(line)
                if text.strip():
                    yield where, parse_object(text)
            except BadRow as error:
                yield where, error


def refuse_utf16(path: Path, file: BinaryIO) -> None:
    """PressError for a file that begins as UTF-16 does; the file stays at its start."""
    start = file.read(2)
    file.seek(0)
    if start in UTF16_MARKS or b"\0" in start:
        raise PressError(f"{path}:1: UTF-16, it seems. Save the file as UTF-8.")


def text_field(where: str, value: dict[str, Any], key: str) -> str:
    """The non-empty string under ``key``; PressError if it is missing, empty or no string."""
    try:
        return checked_text(value, key)
    except BadRow as error:
        raise PressError(f"{where}: {error}") from error


def checked_text(value: dict[str, Any], key: str, name: str | None = None) -> str:
    """As `text_field`, raising BadRow; ``name`` is what the message calls the field."""
    name = name or f"field {key!r}"
    if key not in value:
        fields = ", ".join(map(repr, list(value)[:20])) or "no fields"
        raise BadRow(f"{name} is missing (found {fields}). Add it or remove the line.")
    text = value[key]
    if not isinstance(text, str):
        raise BadRow(f"{name} is a {type(text).__name__}, expected a string.")
    if not has_words(text):
        raise BadRow(f"{name} is empty. Fill it or remove the line.")
    check_characters(text, name)
    return text


def check_characters(text: str, name: str) -> None:
    """BadRow for what no tokenizer and no C string takes: half of a surrogate pair, which JSON can escape, and NUL."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow(
            f"{name}: character {error.start + 1} is half of a surrogate pair "
            f"(\\u{ord(text[error.start]):04x}). Write the whole character."
        ) from error
    if "\0" in text:
        raise BadRow(f"{name}: character {text.index(chr(0)) + 1} is NUL, at which a text ends. Take it out.")


def has_words(text: str) -> bool:
    """Whether a text has a character that can be seen: no blank, control or zero-width character only, nor what Unicode
    has no character for."""
    import unicodedata

    return any(
        not c.isspace()
        and c not in BLANK
        and unicodedata.category(c) not in ("Cc", "Cf", "Mn", "Zl", "Zp")
        and ord(c) & 0xFFFE != 0xFFFE
        and not 0xFDD0 <= ord(c) <= 0xFDEF
        for c in text
    )
