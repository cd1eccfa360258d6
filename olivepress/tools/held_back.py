"""Signals that would end a stage before it is able to answer, held back where it is started.

Blocked signals stay so through fork and exec; core/stage.py lets them through again.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = {signal.SIGINT, signal.SIGTERM}


def hold_back() -> None:
    """From here on for this thread, and what it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


@contextmanager
def held_back() -> Iterator[None]:
    """Within the block for this thread, and for what it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
