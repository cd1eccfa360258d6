"""The native library with operators of our own for the LoRA path, which ONNX Runtime loads with a model.

olivepress/native/operator.c says what the operators do, docs/performance-decode.md what they win, and
olivepress/build_lora_operator.py builds them (`make lora-operator`).
"""

import hashlib
import os
import shutil
from pathlib import Path

from olivepress.errors import PressError

LIBRARY = "olivepress_lora.so"
SOURCES = Path(__file__).parent / "native"
BUILD = Path(__file__).parents[1] / ".lora-operator"
ELSEWHERE = "OLIVEPRESS_LORA_OPERATOR"  # a folder with a library built before: the container image sets it


def digest() -> str:
    """SHA-256 of everything that the library is made from: its sources, its compilers' pins, the build's own code."""
    found = hashlib.sha256()
    for path in (*sorted(SOURCES.iterdir()), SOURCES.with_name("build_lora_operator.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def stamp(library: Path) -> Path:
    """The file beside ``library`` that holds the digest of what it was made from."""
    return library.with_suffix(".sha256")


def built() -> Path | None:
    """The library built from these very sources, if there is one."""
    for folder in (BUILD, Path(os.environ.get(ELSEWHERE, BUILD))):
        library = folder / LIBRARY
        if library.is_file() and stamp(library).is_file() and stamp(library).read_text(encoding="utf-8") == digest():
            return library
    return None


def check_built() -> Path:
    """The library. Raises PressError if it has to be built first."""
    library = built()
    if library is None:
        raise PressError(
            f"{BUILD / LIBRARY}: the LoRA operator is not built from the present {SOURCES.name}/. Run `make "
            "lora-operator`, or set lora_operator: false for this target."
        )
    return library


def ship(folder: Path) -> None:
    """Copy the library into a model folder. Raises PressError as check_built."""
    shutil.copyfile(check_built(), folder / LIBRARY)
