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
VERSION = "1.3.0"
SHA256 = {
    "x86_64": "437290eb773d8245cf4dc6c1adfd62d9d59055482fd6159888c3b3c72ef02db5",
    "aarch64": "8185ce4a6cb394408caf852469f35a2f653c87f98034216456ccc864b7e64397",
}


def check_library() -> Path:
    """The installed library for this machine. Raises PressError if none is installed, or one is not as pinned."""
    instead = "run `make operators`, or set lora_operator: false for this target"
    try:
        from olivepress_operators import __version__, library_path, library_sha256

        own = library_path()
        if __version__ != VERSION:
            raise PressError(f"olivepress-operators {__version__} is installed where {VERSION} is needed: {instead}.")
        found = {processor: library_sha256(processor) for processor in SHA256}
    except (ImportError, FileNotFoundError) as error:
        raise PressError(f"olivepress-operators {VERSION} is not installed ({error}): {instead}.") from error
    for processor, digest in found.items():
        if digest != SHA256[processor]:
            raise PressError(
                f"{own.with_name(LIBRARIES[processor])}: SHA-256 {digest}, pinned for olivepress-operators {VERSION} "
                f"is {SHA256[processor]}: {instead}. After a change to operators/, raise its version and write it and "
                f"the hashes to {Path(__file__).name} in olivepress/export: {json.dumps(found)}."
            )
    return own


def copy_libraries(folder: Path) -> None:
    """Copy the libraries for all processors into a model folder. Raises PressError as check_library."""
    own = check_library()
    for name in LIBRARIES.values():
        shutil.copyfile(own.with_name(name), folder / name)
