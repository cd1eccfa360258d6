"""A model folder may name native code, which ONNX Runtime loads and runs. Only a library that is known is let through.

Known are the libraries of the installed operators (`olivepress_operators`), and those whose hash the release's manifest
names: the manifest lies beside the model folder, and a release's signature covers it. Where nobody can say, a folder
that has a portable graph, too, is loaded with that alone. A model folder may also name files, execution providers and
places to write to: only what an export of this project names is let through.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from olivepress.core.artifact import LIBRARIES, OPERATORS
from olivepress.core.errors import PressError
from olivepress.core.json_document import BadDocument, read_document
from olivepress.core.outputs import sha256

# Loaded as code: by the key (custom_ops_library, a provider's backend_path, …), or by the ending whatever the key.
CODE_KEY = re.compile(r"librar|backend_path", re.IGNORECASE)
CODE_FILE = re.compile(r"\.(so|dll|dylib)(\.\d+)*\s*$", re.IGNORECASE)
# Read from or written to, by the key: filename, adapter_filename, ep_context_file_path, …; a profile is written.
FILE_KEY = re.compile(r"file|path|folder|(^|[_.])dir", re.IGNORECASE)
PROFILE_KEY = re.compile(r"profil", re.IGNORECASE)
# Addresses of functions and objects, which providers take as numbers: CUDA's, TensorRT's, WebGPU's.
ADDRESS_KEY = re.compile(
    r"external_(alloc|free|empty)|(compute|aux)_stream|bytestream|dawnproctable|webgpu(instance|device)", re.IGNORECASE
)
PROVIDERS = (
    "cpu",
    "cuda",
    "webgpu",
    "dml",
    "nvtensorrtrtx",
)  # those that models are exported for; others are libraries, loaded by their name
LARGEST_CONFIG = 4 * 2**20
LARGEST_MANIFEST = 4 * 2**20
LONGEST_NAME = 255  # bytes of a file's name, on every file system in use
# Whole numbers of the configuration: by its part, key -> (least, most). The first three are read here and have to be
# there; GenAI takes memory, or starts threads, by the others. It is asked for one answer at a time: with more beams it
# ends the process on the models of this project.
NUMBERS = {
    "model": {"context_length": (1, 2**31 - 1), "vocab_size": (1, 2**31 - 1), "pad_token_id": (0, 2**31 - 1)},
    "model.decoder": {
        **dict.fromkeys(("num_attention_heads", "num_key_value_heads"), (1, 2**12)),
        **{"head_size": (1, 2**14), "hidden_size": (1, 2**17), "num_hidden_layers": (1, 1_000)},
    },
    "model.decoder.session_options": dict.fromkeys(("intra_op_num_threads", "inter_op_num_threads"), (0, 2**12)),
    "search": dict.fromkeys(("batch_size", "num_beams", "num_return_sequences"), (1, 1)),
}


def read_genai_config(folder: Path) -> dict[str, Any]:
    """genai_config.json of a model folder; PressError if it is missing, broken, or names unknown native code.

    A file that it names has to lie in the folder itself.
    """
    path = folder / "genai_config.json"
    if not path.exists():
        raise PressError(f"{folder}: no genai_config.json. Expected an exported model: run `dvc repro`.")
    try:
        config = read_document(path, LARGEST_CONFIG)
        texts = list(_texts(config))
        for key, text in texts:
            if problem := _problem(key, text):
                raise PressError(f"{path}: {key[:80]} {problem}: not loaded.")
        _check_form(config)
    except (BadDocument, RecursionError) as error:
        raise PressError(f"{path}: not a configuration of ONNX Runtime GenAI: {error}. Export it again.") from error
    for key, text in texts:
        if FILE_KEY.search(key) and not (folder / text).is_file():
            raise PressError(f"{path}: {key} is {text!r}, which is not in this folder. Export it again.")
    named = any(text in LIBRARIES.values() for _, text in texts) or not (folder / OPERATORS).is_file()
    if named or _manifest(folder).is_file() or any(any(_known(folder, name)) for name in LIBRARIES.values()):
        check_library(folder)  # else nobody can say, and the portable graph is loaded without a library (graphs.py)
    return config


def library_is_known(folder: Path, name: str) -> bool:
    """Whether the library ``name`` in the model folder is the one that its manifest or this installation has."""
    return sha256(folder / name) in _known(folder, name)


def _problem(key: str, text: str) -> str:
    """Why a text of a configuration may not be believed; empty if it may."""
    if (CODE_KEY.search(key) or CODE_FILE.search(text)) and text not in LIBRARIES.values():
        return f"names the native code {text[:200]!r}, which is not this project's"
    if ADDRESS_KEY.search(key):
        return f"is {text[:200]!r}, an address in the memory of another process"
    if PROFILE_KEY.search(key) and text:
        return f"is {text[:200]!r}: a file would be written wherever it is run"
    if FILE_KEY.search(key) and (
        text in ("", ".", "..")
        or not text.isprintable()
        or not {*"/\\:"}.isdisjoint(text)
        or len(text.encode()) > LONGEST_NAME
    ):
        return f"is {text[:200]!r}, which is not in this folder"
    return ""


def _check_form(config: dict[str, Any]) -> None:
    """BadDocument unless what is read here has its type, and the providers are those that targets have."""
    for provider in providers(config):
        if provider.lower() not in PROVIDERS:
            expected = f"{', '.join(PROVIDERS[:-1])} or {PROVIDERS[-1]}"
            raise BadDocument(f"it asks for the execution provider {provider[:80]!r}, expected {expected}")
    for part, keys in NUMBERS.items():
        found: Any = config
        for name in part.split("."):
            found = found.get(name, {})
            if not isinstance(found, dict):
                raise BadDocument(f"{part}: expected an object")
        for key, (least, most) in keys.items():
            number = found.get(key)
            if number is None and part != "model":
                continue
            if type(number) is not int or not least <= number <= most:
                expected = f"a whole number from {least} to {most:,}" if least < most else f"{least}"
                raise BadDocument(f"{part}.{key}: found {str(number)[:80]!r}, expected {expected}")
    ends, tokens = config["model"].get("eos_token_id"), config["model"]["vocab_size"]
    ids = ends if isinstance(ends, list) else [ends]
    if ends is not None and not (ids and all(type(one) is int and 0 <= one < tokens for one in ids)):
        raise BadDocument(
            f"model.eos_token_id: found {str(ends)[:80]!r}, expected the id of a token below {tokens:,}, or a list of "
            "some: answers would not end"
        )


def providers(config: dict[str, Any]) -> list[str]:
    """Names of the execution providers that a GenAI configuration asks for; BadDocument if it has another form."""
    place, found = "", config
    for key in ("model", "decoder", "session_options"):
        place = f"{place}.{key}".strip(".")
        found = found.get(key, {} if key == "session_options" else None)
        if not isinstance(found, dict):
            raise BadDocument(f"{place}: expected an object")
    options = found.get("provider_options", [])
    if not isinstance(options, list) or not all(
        isinstance(one, dict) and all(isinstance(value, dict) for value in one.values()) for one in options
    ):
        raise BadDocument(f"{place}.provider_options: expected a list of objects")
    return [name for one in options for name in one]


def options_of(config: dict[str, Any], provider: str) -> dict[str, Any] | None:
    """What a checked GenAI configuration tells ``provider``, named in small letters; None if it does not ask for it."""
    options = config["model"]["decoder"].get("session_options", {}).get("provider_options", [])
    return next((values for one in options for name, values in one.items() if name.lower() == provider), None)


def check_library(folder: Path) -> None:
    """PressError if the model folder has a library that neither its manifest nor this installation knows."""
    for name in LIBRARIES.values():
        library = folder / name
        if (library.exists() or library.is_symlink()) and not library_is_known(folder, name):
            raise PressError(
                f"{library}: native code that nobody vouches for: it is not the library of the operators installed "
                "here, and no manifest.json beside the model folder names it. Not loaded."
            )


def _manifest(folder: Path) -> Path:
    return folder.parent / "manifest.json"


def _known(folder: Path, name: str) -> Iterator[str]:
    """SHA-256 of the libraries that may be loaded by that name with the model in ``folder``."""
    manifest = _manifest(folder)
    if manifest.is_file():
        # a broken manifest names no library, whatever else it does
        with suppress(BadDocument, KeyError, TypeError):
            yield read_document(manifest, LARGEST_MANIFEST)["files"][f"{folder.name}/{name}"]["sha256"]
    # none installed, or one that was not built
    with suppress(ModuleNotFoundError, FileNotFoundError):
        from olivepress_operators import library_path

        for cuda in (False, True):
            yield sha256(library_path(cuda=cuda).with_name(name))


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of every text in a JSON value."""
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from _texts(item, inner)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, str):
        yield key, value
