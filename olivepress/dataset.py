"""Prompt/response data sets: reading with checks, the split, and the text that the model sees."""

import hashlib
import json
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.errors import PressError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Row:
    prompt: str
    response: str


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file:line", object) for each line of a JSON-lines file.

    Raises PressError for a byte that is not UTF-8, broken JSON, a line that is no object or an empty file.
    """
    count = 0
    for number, raw in enumerate(path.read_bytes().splitlines(), start=1):
        place = f"{path}:{number}"
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise PressError(
                f"{place}: byte {error.start + 1} of the line is 0x{raw[error.start]:02x}, which is not UTF-8. "
                "Save the file as UTF-8."
            ) from error
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise PressError(
                f"{place}: column {error.colno}: broken JSON ({error.msg}). Expected one object a line."
            ) from error
        if not isinstance(value, dict):
            raise PressError(f"{place}: found {type(value).__name__}, expected a JSON object with fields.")
        count += 1
        yield place, value
    if not count:
        raise PressError(f"{path}: the data set is empty. Expected JSON lines, one object a line.")


def text_field(place: str, value: dict[str, Any], key: str) -> str:
    """The non-empty string under ``key``; PressError if it is missing, empty or no string."""
    if key not in value:
        found = ", ".join(map(repr, value)) or "no fields"
        raise PressError(f"{place}: field {key!r} is missing (found {found}). Add it or remove the line.")
    if not isinstance(value[key], str):
        raise PressError(f"{place}: field {key!r} is a {type(value[key]).__name__}, expected a string.")
    if not value[key].strip():
        raise PressError(f"{place}: field {key!r} is empty. Fill it or remove the line.")
    try:
        value[key].encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can escape half of a surrogate pair, UTF-8 cannot hold one
        raise PressError(
            f"{place}: field {key!r}: character {error.start + 1} is half of a surrogate pair "
            f"(\\u{ord(value[key][error.start]):04x}). Write the whole character."
        ) from error
    return value[key]


def read_rows(path: Path) -> list[Row]:
    """All rows of a ``{"prompt": …, "response": …}`` file, checked; repeated rows are an error."""
    first_seen: dict[Row, str] = {}
    for place, value in read_objects(path):
        row = Row(text_field(place, value, "prompt"), text_field(place, value, "response"))
        if row in first_seen:
            raise PressError(f"{place}: repeats {first_seen[row]}. Remove one of the two.")
        first_seen[row] = place
    return list(first_seen)


def split(rows: list[Row], held_out: float) -> tuple[list[Row], list[Row]]:
    """(train, held-out) rows. A row's side depends on its prompt alone: adding or moving rows moves no other.

    The SHA-256 of the lower-cased prompt, read as a fraction of 1, is compared with ``held_out``; answers to
    the same prompt therefore never straddle the split.
    """

    def fraction(row: Row) -> float:
        digest = hashlib.sha256(" ".join(row.prompt.lower().split()).encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    train = [row for row in rows if fraction(row) >= held_out]
    return train, [row for row in rows if fraction(row) < held_out]


def check_template(template: str) -> None:
    """PressError unless ``template`` is "chat" or a text with {prompt}, then {response}, and no other field."""
    if template == "chat":
        return
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise PressError(f"text.template: {template!r}: {error}. Write a literal brace twice.") from error
    fields = [name for _, name, _, _ in parts]
    unknown = [name for name in fields if name not in ("prompt", "response")]
    if unknown:
        raise PressError(f"text.template: unknown field {{{unknown[0]}}}. The rows have {{prompt}} and {{response}}.")
    if fields != ["prompt", "response"]:
        raise PressError(
            f"text.template: found the fields {fields}, expected {{prompt}} and then {{response}}, once each "
            'or the word "chat" for the model\'s own chat template.'
        )
    for _, name, spec, conversion in parts:
        if spec or conversion:
            raise PressError(f"text.template: a format or conversion of {{{name}}}. Write {{{name}}} alone.")


def unescape(template: str) -> str:
    r"""Turn the two characters ``\n`` of a template on a command line into a line break."""
    return template.replace("\\n", "\n")


def render(template: str, row: Row, tokenizer: "PreTrainedTokenizerBase") -> str:
    """A row as the text that the model trains on."""
    if template != "chat":
        return template.format(prompt=row.prompt, response=row.response)
    if not tokenizer.chat_template:
        raise PressError("text.template: the model's tokenizer has no chat template. Write a text template instead.")
    messages = [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": row.response}]
    return tokenizer.apply_chat_template(messages, tokenize=False)


def read_texts(path: Path) -> list[str]:
    """The texts of a prepared file (train.jsonl, held_out.jsonl)."""
    return [text_field(place, value, "text") for place, value in read_objects(path)]


def render_prompt(template: str, prompt: str) -> str:
    """The part of a text template before the response, with the prompt filled in."""
    return template.partition("{response}")[0].format(prompt=prompt)
