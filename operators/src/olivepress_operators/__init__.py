"""The native operators, shared libraries that ONNX Runtime loads with a model: for each kind of processor one with the
CPU's operators and, in cuda/ under the same name, one with a CUDA card's."""

import functools
import hashlib
import platform
from pathlib import Path

__version__ = "1.9.0"

# By Linux's name of the processor.
LIBRARIES = {"x86_64": "olivepress_lora.so", "aarch64": "olivepress_lora.aarch64.so"}


def library_path(processor: str | None = None, *, cuda: bool = False) -> Path:
    """The shared library in the installed package for ``processor``, a key of LIBRARIES; None is this machine's.

    ``cuda``: the one for CUDA sessions.

    Raises FileNotFoundError if there is none for it, or it was not built.
    """
    processor = processor or platform.machine()
    if processor not in LIBRARIES:
        raise FileNotFoundError(
            f"olivepress-operators has no library for {processor}: {' and '.join(LIBRARIES)} alone."
        )
    folder = Path(__file__).parent
    path = (folder / "cuda" if cuda else folder) / LIBRARIES[processor]
    if not path.is_file():
        raise FileNotFoundError(f"{path} was not built: install the wheel of olivepress-operators (`make operators`).")
    return path


@functools.cache
def library_sha256(processor: str | None = None, *, cuda: bool = False) -> str:
    """SHA-256 of the shared library, as hexadecimal. Arguments and errors as library_path has them."""
    return hashlib.sha256(library_path(processor, cuda=cuda).read_bytes()).hexdigest()
