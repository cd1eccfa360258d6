"""OpenVINO's packages, which are not in the project's lock: optimum-intel wants an older transformers than it has.

They lie in a folder of their own (`make setup-openvino`), by hash, and stand before .venv's where a command of OpenVINO
runs, in that process alone.
"""

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

from olivepress.core.errors import PressError

FOLDER = Path(".openvino/site-packages")
RUN = ("openvino", "openvino_genai")
# OpenVINO and NNCF tell their makers of every export by it, without asking; where it cannot be imported they do not.
TELEMETRY = "openvino_telemetry"
EXPORT = (*RUN, "openvino_tokenizers", "optimum", "nncf")


def use_packages(needed: tuple[str, ...]) -> None:
    """Make ``needed`` importable, from FOLDER if it is there; PressError by name if one is not installed.

    Nothing of OpenVINO's sends usage data then. To be called before anything imports transformers.
    """
    if FOLDER.is_dir() and (place := str(FOLDER.resolve())) not in sys.path:
        sys.path.insert(0, place)
        importlib.invalidate_caches()
    sys.modules[TELEMETRY] = None
    for name in needed:
        if find_spec(name) is None:
            raise PressError(
                f"{name} is not installed, neither in {FOLDER} nor beside olivepress: run make setup-openvino in a "
                "checkout."
            )
