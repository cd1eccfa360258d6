"""Which graph of a model folder is loaded: the portable one, or the one with native operators, where this machine has
what those need. Both read the same weights and the same adapters (olivepress/export/surgery.py).

genai_config.json names the portable graph, so every other program than this one runs that.
"""

import os
import platform
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivepress.core.artifact import LIBRARIES, LIBRARY, MODEL, OPERATORS, library_for
from olivepress.core.errors import PressError
from olivepress.runtime.trust import library_is_known

SWITCH = "OLIVEPRESS_GRAPH"  # environment variable: one of CHOICES
AUTO, PORTABLE, NATIVE = CHOICES = ("auto", "portable", "operators")
# The graph that genai_config.json names, on every machine: for what has to be the same on all of them.
CONFIGURED = "configured"
GLIBC = (2, 28)  # operators/hatch_build.py builds for it
# Those of x86-64-v3, and ARMv8.2's dot product, by /proc/cpuinfo's names: with less the operators run, but slowly.
FEATURES = {
    "x86_64": ("avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe"),
    "aarch64": ("asimddp",),
}


@dataclass(frozen=True)
class Machine:
    """What decides: the system as sys.platform has it, the processor, the C library with its version, the features."""

    system: str
    processor: str
    libc: str
    libc_version: str
    features: frozenset[str]

    def hindrance(self) -> str | None:
        """Why the operators' library cannot be loaded here; None if it can."""
        if self.system != "linux":
            return f"the operators are for Linux, this is {self.system}"
        if self.processor not in LIBRARIES:
            return f"the operators are for {' and '.join(LIBRARIES)}, this is {self.processor}"
        version = tuple(map(int, re.findall(r"\d+", self.libc_version)[:2]))
        if self.libc != "glibc" or version < GLIBC:
            found = f"{self.libc or 'another C library'} {self.libc_version}".strip()
            return f"the operators need glibc {'.'.join(map(str, GLIBC))}, this is {found}"
        return None

    def drawback(self) -> str | None:
        """Why the operators, which can be loaded, would be slow here; None if they are not."""
        missing = [feature for feature in FEATURES[self.processor] if feature not in self.features]
        return f"the processor has no {', '.join(missing)}" if missing else None


@dataclass(frozen=True)
class Graph:
    """The ONNX file to load, the operators' library that goes with it, if one does, and why this one."""

    file: str
    library: str | None
    why: str

    def __str__(self) -> str:
        kind = "graph with native operators" if self.library else "portable graph"
        return f"{kind} ({self.file}): {self.why}"

    def overlay(self) -> dict[str, Any]:
        """What of genai_config.json's decoder has to be otherwise to load it; nothing for what is named there."""
        if self.file == OPERATORS:
            return {"filename": self.file, "session_options": {"custom_ops_library": self.library}}
        if self.library in (None, LIBRARY):
            return {}
        return {"session_options": {"custom_ops_library": self.library}}


def this_machine() -> Machine:
    """The machine that this process runs on."""
    features = ""
    with suppress(OSError):  # not Linux, or /proc is hidden
        found = re.search(r"^(?:flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
        features = found[1] if found else ""
    return Machine(sys.platform, platform.machine(), *platform.libc_ver(), frozenset(features.split()))


def choose(folder: Path, wanted: str | None = None, machine: Machine | None = None) -> Graph:
    """The graph of the model folder to load on ``machine``, which is this one.

    ``wanted``: one of CHOICES or CONFIGURED; None is what the environment says (SWITCH) where there is a choice, or
    "auto": the operators where they run and are fast. PressError if the folder does not have what is wanted, or it
    cannot run here. A library that is another than the known one is refused before (trust.py).
    """
    argument, wanted = wanted, wanted or os.environ.get(SWITCH) or AUTO
    if wanted not in (*CHOICES, CONFIGURED):
        raise PressError(f"graph: {wanted!r} (the argument, or {SWITCH}): expected {', '.join(CHOICES)}.")
    machine = machine or this_machine()
    library = library_for(machine.processor)
    if not (folder / OPERATORS).is_file():
        native = any((folder / name).is_file() for name in LIBRARIES.values())
        only = Graph(MODEL, library if native else None, "the folder has no other")
        if argument == (PORTABLE if native else NATIVE):
            raise PressError(f"{folder}: has only the {only}. Export it with lora_operator: both.")
        if native and not (folder / library).is_file():
            raise PressError(f"{folder}: its only graph needs {library} on {machine.processor}, which is not there.")
        return only
    if wanted == CONFIGURED:
        return Graph(MODEL, None, "the same on every machine")
    if wanted == PORTABLE:
        return Graph(MODEL, None, "as asked for")
    hindrance = machine.hindrance() or _library_missing(folder, library)
    if wanted == NATIVE:
        if hindrance:
            raise PressError(f"{folder}: the graph with native operators cannot run here: {hindrance}.")
        return Graph(OPERATORS, library, "as asked for")
    hindrance = hindrance or machine.drawback()
    if hindrance:
        return Graph(MODEL, None, hindrance)
    return Graph(OPERATORS, library, "this machine has what they need")


def _library_missing(folder: Path, name: str) -> str | None:
    if not (folder / name).is_file():
        return f"{name} is not there"
    if not library_is_known(folder, name):
        return f"no manifest.json and no installed operators vouch for {name}"
    return None
