"""Strategies that start from valid documents and change them, and such that start from nothing.

Most faults lie one step from what is right: a value of another type, a number that nobody expected, a key that is there
twice, a file that ends early. Random bytes rarely get past the first check; both are tried.
"""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

# Each has broken a reader somewhere.
TEXTS = st.sampled_from(
    ["", " ", "\u200b", "\ufeff", "\ud800", "\x00", "\x1b[31m", "\u2028", "a" * 5000, "é", "e\u0301", "🧪", "\u202e",
    "None", "{{ 7 * 7 }}", "{% for x in y %}", "{prompt}", "{0}", "{", "%s", "${model.source}", "$(touch x)", "`x`",
    "a;b", "../x", "/etc/passwd", "C:\\x", "-rf", "--help", "~", ".", "..", "con", "none", "general", "a'b", 'a"b',
    "a b", "<|end|>", "<|endoftext|>", "<|assistant|>", "1e5", "0x10", "012", "no", "null", "2026-01-01", "NaN",
    "&a", "*a"]
)  # fmt: skip
NUMBERS = st.sampled_from(
    [0, -1, 1, 2, 7, 2**31, 2**32, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5, -1.5, 1e308, 1e-320, 1e8,
    float("nan"), float("inf"), float("-inf")]
)  # fmt: skip


def _deep(depth: int, kind: type) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


DEEP = st.builds(_deep, st.sampled_from([3, 40, 400]), st.sampled_from([list, dict]))
LEAVES = st.one_of(st.none(), st.booleans(), TEXTS, NUMBERS, st.integers(), st.floats(), st.text(max_size=20))
VALUES = st.one_of(
    LEAVES,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    DEEP,
)


def _places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """The way to every value inside ``value``."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*at, key)
        yield from _places(item, (*at, key))


@st.composite
def changed(draw: st.DrawFn, documents: st.SearchStrategy, most: int = 3) -> Any:
    """One of ``documents`` (JSON values) with one to ``most`` changes."""
    value = deepcopy(draw(documents))
    for _ in range(draw(st.integers(1, most))):
        places = list(_places(value))
        if not places:
            return draw(VALUES)
        *way, last = draw(st.sampled_from(places))
        inside = value
        for key in way:
            inside = inside[key]
        kind = draw(st.sampled_from(["replace", "replace", "remove", "rename", "wrap", "add", "swap"]))
        if kind == "replace":
            inside[last] = draw(VALUES)
        elif kind == "remove":
            del inside[last]
        elif kind == "rename" and isinstance(inside, dict):
            inside[draw(TEXTS | st.text(max_size=8))] = inside.pop(last)
        elif kind == "wrap":
            inside[last] = [inside[last]]
        elif kind == "add" and isinstance(inside, dict):
            inside[draw(TEXTS | st.text(max_size=8))] = draw(VALUES)
        elif kind == "add":
            inside.insert(last, draw(VALUES))
        else:
            other = draw(st.sampled_from(places))
            moved = value
            for key in other:
                moved = moved[key] if isinstance(moved, (dict, list)) and _has(moved, key) else None
            inside[last] = deepcopy(moved)
    return value


def _has(value: Any, key: Any) -> bool:
    return key in value if isinstance(value, dict) else isinstance(key, int) and key < len(value)


@st.composite
def damaged(draw: st.DrawFn, files: st.SearchStrategy) -> bytes:
    """The bytes of one of ``files``, cut, overwritten, doubled, or with bytes put in."""
    content = draw(files)
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, len(content)))
        last = draw(st.integers(first, min(len(content), first + 64)))
        kind = draw(st.sampled_from(["cut", "put", "over", "double", "flip", "remove"]))
        if kind == "cut":
            content = content[:first]
        elif kind == "put":
            content = content[:first] + draw(_SNIPPETS) + content[first:]
        elif kind == "over":
            content = content[:first] + draw(_SNIPPETS) + content[last:]
        elif kind == "double":
            content = content[:last] + content[first:]
        elif kind == "remove":
            content = content[:first] + content[last:]
        elif first < len(content):
            content = content[:first] + bytes([content[first] ^ (1 << draw(st.integers(0, 7)))]) + content[first + 1 :]
    return content


_SNIPPETS = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(
        [
            b"\x00",
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            b"\r",
            b"\n\n",
            b"\t",
            b'"',
            b"\\",
            b"'",
            b"[",
            b"{",
            b"]",
            b"}",
            b",",
            b"9" * 5000,
            b'"\\ud800"',
            b"\xed\xa0\x80",
            b"1e999",
            b"-Infinity",
            b"NaN",
            b"!!python/object/apply:os.system [x]",
            b"&a [*a, *a]",
            b"<<<<<<< HEAD\n",
            b"? ",
            b"- ",
            b"%YAML 1.1\n---\n",
            b"\x1b[2J",
            b"\xe2\x80\xa8",
            b"#",
            b"|",
            b">",
            b": ",
            b"~",
            b"...\n",
            b"=1",
            b"<<: ",
        ]
    ),
)


def as_json(documents: st.SearchStrategy) -> st.SearchStrategy[bytes]:
    """Documents as JSON, by chance with a key twice, and with everything that Python writes and JSON does not have."""

    def text(value: Any, doubled: bool, pretty: bool) -> bytes:
        said = json.dumps(value, ensure_ascii=not pretty, indent=1 if pretty else None)
        if doubled and said.startswith("{") and len(said) > 2:
            said = f"{said[:-1].rstrip()}, {said[1:]}"
        return said.encode("utf-8", "surrogatepass")

    return st.builds(text, documents, st.sampled_from([False, False, False, True]), st.booleans())


NOTHING = st.binary(max_size=200) | st.sampled_from(
    [
        b"",
        b"\xef\xbb\xbf",
        b"\xff\xfe{\x00}\x00",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"[1," * 99_999,
        b"9" * 9999,
        b"null",
    ]
)


def spoilt(
    documents: st.SearchStrategy, write: Callable[[st.SearchStrategy], st.SearchStrategy[bytes]] = as_json
) -> st.SearchStrategy[bytes]:
    """Files of documents: changed as values, damaged as bytes, or no such file at all."""
    valid = write(documents)
    return st.one_of(write(changed(documents)), damaged(valid), write(VALUES), NOTHING)
