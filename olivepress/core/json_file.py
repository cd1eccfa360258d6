"""A JSON file that somebody else wrote, read in bounded memory into what every reader would make of it."""

import json
from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError

LARGEST = 16 * 2**20


def load_json(path: Path, largest: int = LARGEST) -> Any:
    """The value in ``path``; PressError for more than ``largest`` bytes, and for what readers disagree about.

    That is broken JSON or UTF-8, NaN and Infinity, a key that is there twice with two values, and what is nested, or a
    number that is long, beyond what Python takes.
    """
    size = path.stat().st_size
    if size > largest:
        raise PressError(f"{path}: {size:,} bytes, expected at most {largest:,}. Fetch the model again.")
    return parse_json(path, path.read_bytes())


def parse_json(path: Path, data: bytes) -> Any:
    """The same of bytes that lie in ``path``."""
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_agreed, parse_constant=_no_number)
    except RecursionError as error:
        raise PressError(f"{path}: nested too deeply to be a configuration. Fetch the model again.") from error
    except ValueError as error:  # broken JSON, bytes that are not UTF-8, a number of too many digits
        reason = str(error).partition(";")[0]
        raise PressError(f"{path}: not valid JSON ({reason}). Fetch the model again.") from error


def load_object(path: Path, largest: int = LARGEST) -> dict[str, Any]:
    """The same, if it is an object."""
    value = load_json(path, largest)
    if not isinstance(value, dict):
        raise PressError(f"{path}: holds a {type(value).__name__}, expected a JSON object with keys.")
    return value


def _agreed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise ValueError(f"{key[:80]!r} is there twice, with two values")
        found[key] = value
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")
