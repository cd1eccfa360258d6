"""Code and files elsewhere that a checkpoint's JSON files name: transformers and Olive would fetch, run or copy them.

Where a model's own code is not trusted, the naming is left out, and with it every way to that code. transformers' own
`trust_remote_code=False` is not enough: the GenAI builder trusts by default, and Olive copies named code into outputs.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError
from olivepress.core.json_file import parse_json

# auto_map: configuration, model, tokenizer, processor; custom_pipelines: transformers' pipeline(); custom_generate:
# a repository whose code decodes
KEYS = ("auto_map", "custom_pipelines", "custom_generate", "trust_remote_code")
# With a repository's name (owner/name) in place of a word: a kernel from the hub, which is native code.
KERNELS = re.compile(r"_?(attn|experts)_implementation(_internal)?", re.ASCII)
# Files that a tokenizer reads, by their names in this folder; a path leads out of it (tokenizer_file, vocab_file, …).
FILES = re.compile(r"\w+_files?", re.ASCII)
# The tokenizers library reads it, which runs no code; it may have tens of megabytes.
NO_CODE = ("tokenizer.json",)


def remove_remote_code(folder: Path) -> list[str]:
    """Rewrite the JSON files in ``folder`` that name code, without the naming; one line for each file to tell the user.

    Raises PressError for a JSON file that is none, or is nested so deeply that it cannot be looked through.
    """
    lines = []
    for path, value, keys in _naming(folder):
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        lines.append(
            f"{path.name}: the Python code that it names, or the file elsewhere ({', '.join(sorted(keys))}), is left "
            "out, and never runs: remote_code.trust_remote_code is off."
        )
    return lines


@contextmanager
def without_remote_code(folder: Path) -> Iterator[Path]:
    """``folder`` if its files name no code, else a temporary folder of links where those that do are mended."""
    named = {path for path, _, _ in _naming(folder)}
    if not named:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="olivepress-no-code-") as scratch:
        view = Path(scratch) / folder.name
        view.mkdir()
        for path in folder.iterdir():
            if path in named:
                shutil.copyfile(path, view / path.name)
            elif path.suffix != ".py":
                (view / path.name).symlink_to(path.resolve())
        remove_remote_code(view)
        yield view


def _naming(folder: Path) -> Iterator[tuple[Path, Any, set[str]]]:
    """(path, value without the naming, keys taken out) of each JSON file that names code or files elsewhere.

    PressError for one that is no JSON, or that readers disagree about (a key twice with two values): nobody knows what
    it names.
    """
    for path in sorted(folder.glob("*.json")):
        if path.name in NO_CODE or not path.is_file():
            continue
        value = parse_json(path, path.read_bytes())
        try:
            keys = set(_remove(value))
        except RecursionError as error:
            raise PressError(f"{path}: nested too deeply to be a configuration. Fetch the model again.") from error
        if keys:
            yield path, value, keys


def _remove(value: Any) -> Iterator[str]:
    """Take out what names code or files elsewhere, at any depth (a configuration may hold others); yields the keys."""
    if isinstance(value, dict):
        for key in [key for key, one in value.items() if _names(key, one)]:
            del value[key]
            yield key
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _remove(one)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value: an attention may be named for each part of a model."""
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(one)


def _names(key: str, value: Any) -> bool:
    if key in KEYS:
        return True
    texts = list(_texts(value))
    if KERNELS.fullmatch(key):
        return any("/" in text for text in texts)
    return bool(FILES.fullmatch(key)) and any("/" in text or "\\" in text or text == ".." for text in texts)
