"""How many threads inference may take where a process has only a part of the machine."""

import os


def thread_limit() -> int | None:
    """Processors that this process may use: its affinity, and its cgroup's set and quota. None if that is the machine.

    ONNX Runtime takes a thread for each core of the machine, whatever the process may use, and they spin: with one of
    two processors allowed, decoding took twice as long as with the one thread that there is room for.
    """
    from joblib import cpu_count

    allowed = cpu_count()
    return allowed if allowed < (os.cpu_count() or 1) else None
