"""The hub is asked by fetch alone: every other stage reads the folders that it was given."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

SWITCH = "HF_HUB_OFFLINE"


@contextmanager
def hub_offline() -> Iterator[None]:
    """Within the block huggingface_hub, and with it transformers, peft and datasets, send no request."""
    before = os.environ.get(SWITCH)
    known = {module.__name__: module.HF_HUB_OFFLINE for module in _readers()}
    os.environ[SWITCH] = "1"
    for module in _readers():
        module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before
        for module in _readers():  # one that was imported within the block read "1"
            module.HF_HUB_OFFLINE = known.get(module.__name__, _is_on(before))


def _readers() -> list[ModuleType]:
    """The modules that read the switch once, when they are imported, of those that are."""
    return [sys.modules[name] for name in ("huggingface_hub.constants", "datasets.config") if name in sys.modules]


def _is_on(value: str | None) -> bool:
    return (value or "").upper() in {"1", "ON", "YES", "TRUE"}
