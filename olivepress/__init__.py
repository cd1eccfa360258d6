"""Olive Press: presses a language model into a small, fine-tuned, on-device ONNX model.

For those who use a release: ``olivepress.load(folder)``, ``olivepress.Conversation(model)``, which need the extra
``runtime``, and ``olivepress.PressError`` for bad input.
"""

import os
from importlib import import_module
from typing import Any

# ONNX Runtime 1.31 and GenAI 0.18 (not those of the lock) keep a device's id and send usage data unless this is set
# before they are loaded. Whoever wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Conversation", "PressError", "__version__", "load"]

# name -> where it is. Imported when asked for: every stage imports this package, and few need the runtime.
_PLACES = {
    "Conversation": "olivepress.runtime.conversation",
    "PressError": "olivepress.core.errors",
    "load": "olivepress.runtime.release",
}


def __getattr__(name: str) -> Any:
    """What users of a release call."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'olivepress' has no attribute {name!r}")
