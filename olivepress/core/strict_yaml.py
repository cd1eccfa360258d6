"""YAML as this project reads it: plain data as DVC reads them (YAML 1.2), bounded, and every value with its line.

DVC reads params.yaml by YAML 1.2, most other libraries by 1.1: `012` is twelve here and ten there, `no` a text here
and false there. A spelling that they read differently is refused, so that nobody can be told another value than the one
that ran; only numbers such as `1e-2`, which 1.1 takes for a text, are read as what they look like.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError

if TYPE_CHECKING:
    from ruamel.yaml import YAML
    from ruamel.yaml.events import Event

Key = tuple[str | int, ...]

MAX_BYTES = 2**20
MAX_DEPTH = 16
MAX_VALUES = 5_000
LONGEST_NUMBER = 64
# Line breaks to one version of YAML and not to the other, and everything that neither allows unescaped.
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
HALF = re.compile("[\ud800-\udfff]")  # "\\ud83d\\ude00" is one character to JSON, two of these to YAML
ALIAS = re.compile(r"(^|[\s\[{,:?-])\*\S", re.M)
CONFLICT = re.compile(r"^(<{7}|>{7}|\|{7})( |$)", re.M)


@dataclass(frozen=True)
class Document:
    """A YAML file: its mapping, where each key and list entry stands, and what is wrong with it, (key, text) each."""

    path: Path
    value: dict[str, Any]
    lines: dict[Key, int]
    problems: list[tuple[Key, str]]

    def line(self, key: Key) -> int:
        """The line of ``key``, or of the section that it would stand in."""
        return next((self.lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.lines), 1)

    def raise_for(self, problems: list[tuple[Key, str]]) -> None:
        """PressError with all of ``problems``, by line; nothing if there are none."""
        if not problems:
            return
        said = sorted({(self.line(key), f"{dotted(key)}: {text}" if key else text) for key, text in problems})
        rows = [f"{self.path}:{line}: {text}" for line, text in said[:20]]
        if len(said) > len(rows):
            rows.append(f"and {len(said) - len(rows)} more.")
        raise PressError("\n  ".join([f"{self.path}: {len(said)} problems:", *rows] if len(rows) > 1 else rows))


def dotted(key: Key) -> str:
    """A key as people write it, ``finetune.steps``; short, and with nothing that a terminal would obey."""
    return ".".join(short(part) if isinstance(part, str) else str(part) for part in key)


def short(text: str) -> str:
    """At most 80 characters of a text, on one line."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= 80 else f"{shown[:79]}…"


def read_yaml(path: Path) -> Document:
    """The mapping in the file at ``path``; PressError, with the line, for what is no YAML or not plain data."""
    document = parse_yaml(read_text(path), path)
    document.raise_for(document.problems)
    return document


def read_text(path: Path) -> str:
    """The text of a small UTF-8 file; PressError for anything else."""
    if not path.is_file():
        raise PressError(f"{path}: {'not a file' if path.exists() else 'not there'}.")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise PressError(f"{path}: more than {MAX_BYTES:,} bytes. Keep data in files of their own.")
    if content.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        name = "UTF-8" if content.startswith(b"\xef") else "UTF-16"
        raise PressError(f"{path}:1: {name} with a byte order mark. Save it as UTF-8 without one.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise PressError(f"{path}:{line}: not UTF-8 (byte 0x{content[error.start]:02x}). Save it as UTF-8.") from error


def refuse_trap(path: Path) -> None:
    """PressError for a params.yaml that DVC, which reads it by itself, waits for or spends all memory on."""
    text = read_text(path)
    if ALIAS.search(text):
        document = parse_yaml(text, path)
        document.raise_for([problem for problem in document.problems if problem[1].startswith("an alias")])


def parse_yaml(text: str, path: Path) -> Document:
    """``text`` as a Document; PressError where it cannot be read on, its other faults are in ``problems``."""
    for pattern, what in (
        (CONFLICT, "a merge conflict is not resolved"),
        (UNPRINTABLE, "a character that is not text"),
    ):
        found = pattern.search(text)
        if found:
            line = text.count("\n", 0, found.start()) + 1
            raise PressError(f"{path}:{line}: {what} ({ascii(found[0])[1:-1]}). Edit the file.")
    import yaml as yaml_1_1
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe", pure=True)
    builder = _Builder(yaml, path)
    try:
        document = builder.document(iter(yaml.parse(text)))
        for _ in yaml_1_1.parse(text, yaml_1_1.SafeLoader):  # `[?x]` is a text to YAML 1.2 alone
            pass
        return document
    except (YAMLError, yaml_1_1.YAMLError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        lines = text.splitlines()
        line = min(mark.line, len(lines) - 1) if mark and lines else 0
        what = getattr(error, "problem", None) or "it cannot be read"
        if lines and "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip()) + 1]:
            what = "a tab; YAML is indented with spaces"
        raise PressError(f"{path}:{line + 1}: not valid YAML: {short(' '.join(what.split()))}.") from error
    except (ValueError, OverflowError) as error:  # "\\UFFFFFFFF": the libraries ask for a character of that number
        raise PressError(
            f"{path}:{builder.line}: not valid YAML: in this line or below it \\U stands before what is no character."
        ) from error


class _Builder:
    """Builds values out of ruamel's events: nothing is expanded or constructed that is not plain data."""

    def __init__(self, yaml: "YAML", path: Path) -> None:
        import yaml as yaml_1_1

        self.yaml, self.path = yaml, path
        self.resolver_1_1 = yaml_1_1.SafeLoader("")
        self.lines: dict[Key, int] = {}
        self.problems: list[tuple[Key, str]] = []
        self.values = 0
        self.line = 1  # of what was read last

    def document(self, events: "Iterator[Event]") -> Document:
        from ruamel.yaml import events as kinds

        next(events)  # the start of the stream
        start = next(events)
        value: Any = None
        if isinstance(start, kinds.DocumentStartEvent):
            if start.version or start.tags:
                raise PressError(f"{self.path}:{start.start_mark.line + 1}: a % directive. Leave it out.")
            first = next(events)
            value = self.value(first, events, ())
            next(events)  # the end of the document
            if not isinstance(more := next(events), kinds.StreamEndEvent):
                raise PressError(f"{self.path}:{more.start_mark.line + 1}: a second document (---). Expected one.")
        if not isinstance(value, dict):
            raise PressError(f"{self.path}:1: found {describe(value)}, expected sections such as `model:`.")
        return Document(self.path, value, self.lines, self.problems)

    def value(self, event: "Event", events: "Iterator[Event]", key: Key) -> Any:
        from ruamel.yaml import events as kinds

        line = self.line = event.start_mark.line + 1
        self.lines.setdefault(key, line)
        self.values += 1
        if len(key) > MAX_DEPTH:
            raise PressError(f"{self.path}:{line}: nested more than {MAX_DEPTH} deep.")
        if self.values > MAX_VALUES:
            raise PressError(f"{self.path}:{line}: more than {MAX_VALUES:,} values.")
        if isinstance(event, kinds.AliasEvent):
            self.problems.append((key, f"an alias (*{short(event.anchor)}). Write the value out."))
            return None
        if event.tag is not None:
            self.problems.append((key, f"a tag ({short(str(event.tag))}). Only plain values are read."))
        if isinstance(event, kinds.ScalarEvent):
            if half := HALF.search(event.value):
                found = ascii(half[0])[1:-1]
                raise PressError(f"{self.path}:{line}: half of a surrogate pair ({found}). Write the character.")
            return event.value if event.style else self.plain(event.value, key)
        if isinstance(event, kinds.SequenceStartEvent):
            entries: list[Any] = []
            while not isinstance(entry := next(events), kinds.SequenceEndEvent):
                entries.append(self.value(entry, events, (*key, len(entries))))
            return entries
        return self.mapping(events, key)

    def mapping(self, events: "Iterator[Event]", key: Key) -> dict[str, Any]:
        from ruamel.yaml import events as kinds

        found: dict[str, Any] = {}
        while not isinstance(event := next(events), kinds.MappingEndEvent):
            line = event.start_mark.line + 1
            if isinstance(event, kinds.ScalarEvent) and event.value == "<<" and not event.style:
                self.lines[(*key, "<<")] = line
                self.problems.append(((*key, "<<"), "a merge key. Write the values out."))
                found["<<"] = self.value(next(events), events, (*key, "<<"))
                continue
            name = self.value(event, events, (*key, f"(key in line {line})"))
            if not isinstance(name, str):
                place = (*key, f"{event.value if isinstance(event, kinds.ScalarEvent) else 'a key'}")
                self.lines.setdefault(place, line)
                self.problems.append((place, f"a key is {describe(name)}, expected text. Quote it if it is a name."))
                name = str(place[-1])
            elif name in found:
                first = self.lines[(*key, name)]
                self.problems.append(((*key, name), f"there twice, in the lines {first} and {line}. Keep one."))
                name = f"{name} (again in line {line})"
                self.value(next(events), events, (*key, name))
                continue
            self.lines[(*key, name)] = line
            found[name] = self.value(next(events), events, (*key, name))
        return found

    def plain(self, text: str, key: Key) -> Any:
        """The value of an unquoted scalar by YAML 1.2; a problem if 1.1 reads it as another."""
        import yaml as yaml_1_1
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
        from ruamel.yaml.nodes import ScalarNode

        by_1_2 = str(self.yaml.resolver.resolve(ScalarNode, text, (True, False)))
        by_1_1 = self.resolver_1_1.resolve(yaml_1_1.ScalarNode, text, (True, False))
        if by_1_2 == by_1_1 == "tag:yaml.org,2002:str":
            return text
        if by_1_2 != "tag:yaml.org,2002:str" and len(text) > LONGEST_NUMBER:
            self.problems.append((key, f"a number of {len(text):,} characters. Quote it if it is a text."))
            return None
        readings = []
        for load in (lambda scalar: YAML(typ="safe", pure=True).load(scalar), yaml_1_1.safe_load):
            try:
                readings.append(load(text))
            except (YAMLError, yaml_1_1.YAMLError, ValueError, OverflowError, ArithmeticError):
                self.problems.append((key, f"{text!r} means nothing here. Quote it if it is a text."))
                return None
        value, other = readings
        is_nan = isinstance(value, float) and math.isnan(value)
        same = type(value) is type(other) and (value == other or is_nan)
        if not same and not (isinstance(value, float) and isinstance(other, str)):
            what = f"{text} is {describe(value)} to YAML 1.2 and {describe(other)} to 1.1"
            self.problems.append((key, f"{what}. Quote a text; write true, false or a plain decimal number."))
        return value


def describe(value: Any) -> str:
    """A value as an error message shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a section" if value else "an empty section"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"the text '{short(value)}'" if isinstance(value, str) else short(str(value))
