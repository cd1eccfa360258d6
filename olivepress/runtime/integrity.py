"""A release is what its manifest says: it is held to it before anything of it is loaded.

manifest.json names every file of model/ and adapters/ by size and SHA-256. A file too many, too few or with other
bytes, a link that leaves the folder, a path that does, a manifest that is none: each is refused by its name. Who wrote
the manifest is another question, which a signature answers (docs/releasing.md).
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import category

from olivepress.core.artifact import ADAPTER_SUFFIX, LIBRARIES, MODEL
from olivepress.core.errors import PressError
from olivepress.core.json_document import BadDocument, read_document
from olivepress.core.template import check_template, unescape
from olivepress.runtime.hash_cache import HashCache
from olivepress.runtime.trust import CODE_FILE

MANIFEST = "manifest.json"
# What stands beside the files that a manifest names: itself, the card, and what DVC writes beside its outputs.
BESIDE = {MANIFEST, "README.md", ".gitignore", "adapters/.gitignore"}
# How a release is held to its manifest: hashes but for those known from before; all hashes; sizes, and hashes of what
# is small; not at all.
VERIFY = ("cached", "full", "sizes", "none")
SMALL = 16 * 2**20  # bytes of a file that is hashed with "sizes", too: configurations, tokenizer, native code
LARGEST_MANIFEST = 4 * 2**20
MOST_FILES = 10_000
MOST_PROBLEMS = 20
LONGEST_TEXT = 10_000  # a template's; the others are shorter by far
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
DIGEST = re.compile(r"[0-9a-f]{64}")
# Keys of a manifest that are read here or shown to people: path -> type and its name.
SHAPE: dict[str, tuple[type, str]] = {
    "name": (str, "a text"),
    "version": (str, "a text"),
    "target": (str, "a text"),
    "licence": (str, "a text"),
    "adapters": (list, "a list of names"),
    "files": (dict, "an object of files"),
    "params": (dict, "an object"),
    "params.text": (dict, "an object"),
    "params.text.template": (str, "a text"),
}
AGAIN = "get the release again (dvc artifacts get <repository> <name>)"


def check_release(folder: Path, verify: str = "cached") -> dict[str, Any]:
    """The manifest of the release in ``folder``, which is what it says; PressError names what is not.

    ``verify``: one of VERIFY. With "none" only the manifest itself is checked.
    """
    if verify not in VERIFY:
        raise PressError(f"verify: {verify!r}: expected {', '.join(VERIFY)}.")
    manifest = read_manifest(folder / MANIFEST)
    if verify != "none" and (problems := differences(folder, manifest["files"], verify)):
        more = f" {len(problems) - 1} more like it." if len(problems) > 1 else ""
        raise PressError(f"{problems[0]} Nothing is loaded: {AGAIN}.{more}")
    return manifest


def differences(folder: Path, expected: dict[str, dict[str, Any]], verify: str = "cached") -> list[str]:
    """A sentence for each file in ``folder`` that is not as ``expected``, the files of a manifest, has it.

    Nothing is hashed where names and sizes tell already.
    """
    return list(_layout(folder, expected)) or list(_contents(folder, expected, verify))


def read_manifest(path: Path) -> dict[str, Any]:
    """A release's manifest; PressError unless it is one, of files in the folder that it lies in."""
    try:
        if path.is_symlink():
            raise BadDocument("it is a link")
        manifest = read_document(path, LARGEST_MANIFEST)
        for key, (kind, words) in SHAPE.items():
            found: Any = manifest
            for part in key.split("."):
                if part not in found:
                    raise BadDocument(f"it has no {key}")
                found = found[part]
            if not isinstance(found, kind):
                raise BadDocument(f"{key}: found {str(found)[:80]!r}, expected {words}")
            if kind is str and not _is_shown(found.replace("\n", "").replace("\t", "") if "." in key else found):
                raise BadDocument(
                    f"{key}: {found[:80]!a}: expected at most {LONGEST_TEXT:,} characters, all to be seen"
                )
        _check_names(manifest)
        _check_files(manifest)
    except BadDocument as error:
        raise PressError(f"{path}: is no manifest of a release: {error}: {AGAIN}.") from error
    try:
        check_template(unescape(manifest["params"]["text"]["template"]))
    except PressError as error:
        raise PressError(f"{path}: {error.message}") from error
    return manifest


def _is_shown(text: str) -> bool:
    """Whether a text can be printed: a terminal would obey a control character, and no tokenizer takes half a pair."""
    return len(text) <= LONGEST_TEXT and not any(category(one) in ("Cc", "Cs", "Zl", "Zp") for one in text)


def _check_names(manifest: dict[str, Any]) -> None:
    """BadDocument unless target and adapters are names, no adapter twice."""
    names = manifest["adapters"]
    for key, name in (("target", manifest["target"]), *(("adapters", name) for name in names)):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise BadDocument(f"{key}: {str(name)[:80]!r} is no name: letters, digits, '.', '_' and '-'")
    if len(set(names)) < len(names):
        raise BadDocument(f"adapters: {next(name for name in names if names.count(name) > 1)!r} is there twice")


def _check_files(manifest: dict[str, Any]) -> None:
    """BadDocument unless the files have sizes and digests, lie in model/ and adapters/, and are a model's."""
    files = manifest["files"]
    if len(files) > MOST_FILES or len(manifest["adapters"]) > MOST_FILES:
        raise BadDocument(f"files: {len(files):,}, at most {MOST_FILES:,} are read")
    for name, entry in files.items():
        where = f"files: {name[:200]!r}"
        if problem := path_problem(name):
            raise BadDocument(f"{where} {problem}")
        if not isinstance(entry, dict) or type(entry.get("bytes")) is not int or entry["bytes"] < 0:
            raise BadDocument(f"{where}: bytes: expected a whole number, at least 0")
        if not isinstance(entry.get("sha256"), str) or not DIGEST.fullmatch(entry["sha256"]):
            raise BadDocument(f"{where}: sha256: expected 64 hexadecimal digits in lower case")
        if CODE_FILE.search(name) and name not in {f"model/{library}" for library in LIBRARIES.values()}:
            raise BadDocument(f"{where} is native code, and not this project's")
    adapters = {f"adapters/{name}{ADAPTER_SUFFIX}" for name in manifest["adapters"]}
    for name in sorted({"model/genai_config.json", f"model/{MODEL}", *adapters} - files.keys()):
        raise BadDocument(f"files: {name!r} is not among them")
    for name in files:
        if name.startswith("adapters/") and name not in adapters:
            raise BadDocument(f"files: {name!r} is of no adapter that it lists")


def path_problem(name: str) -> str:
    """What is wrong with the path of a file in a release, relative to its folder; empty if nothing is."""
    if "\\" in name or not name.isprintable() or re.match("[A-Za-z]:", name):
        return "is no path as a release has them: it has a backslash, a drive or a control character"
    if len(name) > 1000 or str(PurePosixPath(name)) != name or not {"..", ".", ""}.isdisjoint(name.split("/")):
        return "is no path inside of the release: no '..', no '.', no '//', not absolute"
    if not name.startswith(("model/", "adapters/")):
        return "is neither in model/ nor in adapters/"
    return ""


def _layout(folder: Path, expected: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What is there too much or too little, is no file, leaves the folder, or has another size."""
    missing = set(expected)
    for number, (name, problem) in enumerate(walk(folder)):
        missing.discard(name)
        where = str(folder / name) if name.isprintable() else f"{folder}: {name!a}"
        if problem:
            yield f"{where}: {problem}."
        elif name in expected:
            if (size := (folder / name).stat().st_size) != expected[name]["bytes"]:
                yield f"{where}: has {size:,} bytes, {MANIFEST} says {expected[name]['bytes']:,}."
        elif name not in BESIDE:
            yield f"{where}: is there, but not in {MANIFEST}: take it out, if you know what it is."
        if number > len(expected) + MOST_PROBLEMS:  # more than enough surplus to refuse it
            return
    for name in sorted(missing):
        yield f"{folder / name}: is in {MANIFEST}, but not there."


def walk(folder: Path) -> Iterator[tuple[str, str]]:
    """(path relative to ``folder``, what is wrong with it) of all that is in it but folders, sorted in each folder.

    Wrong is what cannot be read, is no file (a pipe, a device), or a link out of the folder, to a folder or to nothing.
    """
    root = folder.resolve()
    todo, folders = [""], 0
    while todo:
        inside = todo.pop()
        if folders > MOST_FILES:
            yield inside, f"is one of more than {MOST_FILES:,} folders"
            return
        try:
            with os.scandir(folder / inside) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield inside, f"cannot be read ({error.strerror})"
            continue
        for entry in found:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if entry.is_dir(follow_symlinks=False):
                todo.append(name)
                folders += 1
            else:
                yield name, _no_file(Path(entry.path), root)


def _no_file(path: Path, root: Path) -> str:
    """Why ``path`` is no file in ``root``; empty if it is one."""
    try:
        real = path.resolve(strict=True)
        if path.is_symlink() and not real.is_relative_to(root):
            return "is a link that leaves the release"
        return "" if stat.S_ISREG(real.stat().st_mode) else "is not a file"
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        return f"cannot be read ({getattr(error, 'strerror', None) or 'a loop of links'})"


def _contents(folder: Path, expected: dict[str, dict[str, Any]], verify: str) -> Iterator[str]:
    """Files whose bytes are others than the manifest says."""
    cache = HashCache(folder, trust=verify != "full")
    for name, entry in expected.items():
        if verify == "sizes" and entry["bytes"] > SMALL:
            continue
        try:
            digest = cache.sha256(name)
        except OSError as error:
            yield f"{folder / name}: cannot be read ({error.strerror})."
            continue
        if digest != entry["sha256"]:
            yield f"{folder / name}: its SHA-256 is {digest}, {MANIFEST} says {entry['sha256']}: it was changed."
    cache.save()
