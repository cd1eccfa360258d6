"""The native operators' libraries, which ONNX Runtime loads with a model: built by the distribution in operators/.

They are pinned here, as a lock pins a package: the build gives the same bytes everywhere, and auto-opt, which depends
on this file, runs again when a library changes. A folder gets those for all processors, whichever this machine has,
so that it is the same wherever it is made. docs/lora-operator.md says what the operators do and win.
"""

import json
import shutil
from pathlib import Path

from olivepress.core.artifact import LIBRARIES
from olivepress.core.errors import PressError

# `make operators` says what to write here after a change to operators/.
VERSION = "1.9.0"
# By processor, of the library for the CPU and of that for CUDA.
SHA256 = {
    "x86_64": (
        "8bc0936d4ae0228aab34b6bf217df55489d1b4f1d6e5c00545526b8b6c165e4a",
        "66ab7b4dd08d6155ca6e02d0cbea9561b984b93f337452489b2d2d553409e1aa",
    ),
    "aarch64": (
        "46588b979553086b09d04d67061ec723fa52015e5ddb9e7c451da7218bfa7943",
        "57d7ef53bb2e4c78a1101358a2bcf3559d0774d28dec86c6eb07e87c94d2ca43",
    ),
}


def check_library(provider: str = "CPUExecutionProvider") -> Path:
    """The installed library with the operators of an execution provider, for this machine.

    Raises PressError if none is installed, or one of them, for whichever provider, is not as pinned.
    """
    instead = "run `make operators`, or set lora_operator: false for this target"
    try:
        from olivepress_operators import __version__, library_path, library_sha256

        own = library_path(cuda=provider == "CUDAExecutionProvider")
        if __version__ != VERSION:
            raise PressError(f"olivepress-operators {__version__} is installed where {VERSION} is needed: {instead}.")
        found = {name: [library_sha256(name, cuda=cuda) for cuda in (False, True)] for name in SHA256}
    except (ImportError, FileNotFoundError) as error:
        raise PressError(f"olivepress-operators {VERSION} is not installed ({error}): {instead}.") from error
    for processor, digests in found.items():
        for cuda, digest in enumerate(digests):
            if digest != SHA256[processor][cuda]:
                path = library_path(processor, cuda=bool(cuda))
                raise PressError(
                    f"{path}: SHA-256 {digest}, pinned for olivepress-operators {VERSION} is "
                    f"{SHA256[processor][cuda]}: {instead}. After a change to operators/, raise its version and write "
                    f"it and the hashes to {Path(__file__).name} in olivepress/export: {json.dumps(found)}."
                )
    return own


def copy_libraries(folder: Path, provider: str = "CPUExecutionProvider") -> None:
    """Copy the libraries for all processors into a folder with a model for ``provider``.

    Raises PressError as check_library.
    """
    own = check_library(provider)
    for name in LIBRARIES.values():
        shutil.copyfile(own.with_name(name), folder / name)
