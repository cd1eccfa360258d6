"""A base's tokenizer.json, read once and tried where it can be killed: it may hold regular expressions of any kind.

The tokenizers library hands them to Oniguruma, which tries ways to match one after the other. `(a+)+$` has as many as
there are subsets of a row of a's: with thirty of them the library gives up, by an error that is no Exception, or, with
other patterns, goes on for hours. Nothing interrupts it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from olivepress.core import limits
from olivepress.core.errors import PressError, first_sentence
from olivepress.core.lacks import lack
from olivepress.core.limits import TooMuch, apart, each_apart
from olivepress.core.tokenizer import FILE, load_tokenizer

LOAD_SECONDS = 120  # a vocabulary of 256,000 tokens takes about five
# Rows of one of these, or of a letter that a pattern names, are what patterns match in many ways.
OFTEN = "aA0 \n\t.-'é漢"
LENGTH = 64  # 2^64 ways, where their number doubles with each character; milliseconds where it does not
MANY = ("vocab", "merges", "added_tokens")  # parts of the file that are long, and hold no pattern
TEXTS = ("Hello, world! It's 12:30.", "def f(x):\n\treturn x  # 3.14", "Привет, 世界 👍")


def try_tokenizer(folder: Path) -> None:
    """PressError names the pattern, or the file, if reading the tokenizer in ``folder`` or splitting text by it hangs,
    crashes, or takes a gigabyte for a pattern.

    Patterns are tried by rows of one character, which most such patterns fail on; others are found with the row in
    prepare.
    """
    from transformers import AutoTokenizer  # noqa: F401  once, and not in every process

    path = folder / FILE
    doing = "reading it"
    try:
        if path.is_file():
            for said in each_apart(lambda: _try_patterns(path), memory=limits.MEMORY):
                doing = said
        doing = "splitting text by it"
        apart(lambda: _split(folder), LOAD_SECONDS)
    except TooMuch as error:
        where = path if path.is_file() else folder  # a tokenizer may lie in other files, tokenizer.model say
        raise PressError(f"{where}: {doing} {error}. Choose a model whose tokenizer reads any text.") from error
    except PressError:
        raise
    except Exception as error:  # a setting of tokenizer_config.json that nobody looks at before the first text
        if lack(error):  # the machine lacks it, not the tokenizer
            raise
        raise PressError(
            f"{folder}: its tokenizer fails on a text: {first_sentence(error)} Fetch the model again."
        ) from error


def _split(folder: Path) -> None:
    tokenizer = load_tokenizer(folder, trust_remote_code=False)
    for text in TEXTS:
        tokenizer.encode(text)


def _try_patterns(path: Path) -> Iterator[str]:
    """Which pattern is tried next, before it is."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    try:
        patterns = list(_patterns(json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, RecursionError):  # the library says what is wrong with it
        return
    for key, pattern in patterns:
        yield f"{key}: {pattern[:80]!r}"
        try:
            split = Split(Regex(pattern), "isolated")
        except Exception:  # the library says, as it reads the file, that it is no pattern
            return
        for text in _probes(pattern):
            split.pre_tokenize_str(text)


def _patterns(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every regular expression in a tokenizer.json, with its place."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _patterns(item, f"{key}[{number}]")
    elif isinstance(value, dict):
        if isinstance(value.get("Regex"), str):
            yield key, value["Regex"]
        for name, item in value.items():
            if name not in MANY:
                yield from _patterns(item, f"{key}.{name}" if key else name)


def _probes(pattern: str) -> Iterator[str]:
    """Rows of one character each, and of all that ``pattern`` names, with an end that few patterns match.

    What the pattern names comes behind one of the ends: where a text lacks it, Oniguruma does not begin to match.
    """
    letters = "".join(dict.fromkeys(letter for letter in pattern if letter.isprintable()))
    for text in (*dict.fromkeys(OFTEN + letters), letters):
        for end in ("", "\x01", "b", f"\x01{letters}"):
            yield (text * LENGTH)[:LENGTH] + end
