"""DVC's note of which process reads and writes what, put right where it was cut off.

DVC writes it in its place, twice a stage. On a full disk, or killed meanwhile, it leaves a file that no DVC reads, and
that none replaces: whatever is asked of DVC in this folder then fails until somebody deletes it.
"""

import json
from pathlib import Path

PLACE = Path(".dvc/tmp/rwlock")


def mended() -> str | None:
    """Delete the note in this folder if it is cut off; what there is to say about that.

    What it said of a DVC that runs at the moment is lost with it; nobody could have read it.
    """
    if not PLACE.is_file() or _whole():
        return None
    from dvc.lock import LockError, make_lock

    try:
        with make_lock(f"{PLACE}.lock", tmp_dir=str(PLACE.parent)):  # nobody writes it just now
            if _whole():
                return None
            PLACE.unlink()
    except (LockError, OSError):  # DVC says so itself
        return None
    return f"{PLACE}, which DVC was writing as it was ended or the disk had no space left, was cut off: it is deleted."


def _whole() -> bool:
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid

    try:
        SCHEMA(json.loads(PLACE.read_bytes()))
    except FileNotFoundError:
        return True
    except (ValueError, Invalid):
        return False
    return True
