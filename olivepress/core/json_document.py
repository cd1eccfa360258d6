"""JSON files that somebody else may have written: read in bounded time and memory, or refused."""

import json
import stat
from pathlib import Path
from typing import Any

from olivepress.core.jsonl import UTF8_MARK, no_number, unique

# Values of a document: with keys and containers, some 100 bytes each at worst. The largest tokenizers have two million.
MOST_VALUES = 5_000_000


class BadDocument(ValueError):
    """The file is no such document; the text says how, without the file's name."""


def read_document(path: Path, largest: int) -> dict[str, Any]:
    """The JSON object in a regular file of at most ``largest`` bytes.

    BadDocument for everything else: no file, a pipe, more bytes, no UTF-8, broken or deeply nested JSON, a key that
    is there twice (a reader in C++ may merge what Python replaces), NaN, a number that Python cannot hold.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadDocument("it is not a file")
        if status.st_size > largest:
            raise BadDocument(f"it has {status.st_size:,} bytes, at most {largest:,} are read")
        with path.open("rb") as file:
            content = file.read(largest + 1).removeprefix(UTF8_MARK)
    except OSError as error:
        raise BadDocument(f"it cannot be read: {error.strerror}") from error
    if sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise BadDocument(f"it has more than {MOST_VALUES:,} values")
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_number)
    except UnicodeDecodeError as error:
        raise BadDocument(f"byte {error.start + 1} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise BadDocument(f"line {error.lineno}, column {error.colno}: broken JSON ({error.msg})") from error
    except RecursionError as error:
        raise BadDocument("it is nested too deep") from error
    except ValueError as error:  # a key twice, NaN, Python's limit on the digits of a whole number
        raise BadDocument(str(error).partition(";")[0].rstrip(".")) from error
    if not isinstance(value, dict):
        raise BadDocument(f"found {type(value).__name__}, expected an object")
    return value
