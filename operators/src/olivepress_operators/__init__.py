"""The native operators, a shared library for each kind of processor, which ONNX Runtime loads with a model."""

import functools
import hashlib
import platform
from pathlib import Path

__version__ = "1.3.0"

# By Linux's name of the processor.
LIBRARIES = {"x86_64": "olivepress_lora.so", "aarch64": "olivepress_lora.aarch64.so"}


def library_path(processor: str | None = None) -> Path:
    """The shared library in the installed package for ``processor``, a key of LIBRARIES; None is this machine's.

    Raises FileNotFoundError if there is none for it, or it was not built.
    """
    processor = processor or platform.machine()
    if processor not in LIBRARIES:
        raise FileNotFoundError(
            f"olivepress-operators has no library for {processor}: {' and '.join(LIBRARIES)} alone."
        )
    path = Path(__file__).parent / LIBRARIES[processor]
    if not path.is_file():
        raise FileNotFoundError(f"{path} was not built: install the wheel of olivepress-operators (`make operators`).")
    return path


@functools.cache
def library_sha256(processor: str | None = None) -> str:
    """SHA-256 of the shared library, as hexadecimal. ``processor`` and errors as library_path has them."""
    return hashlib.sha256(library_path(processor).read_bytes()).hexdigest()
