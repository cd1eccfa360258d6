"""A model folder's tokenizer and chat template, tried once where they can be killed, before they are used here.

Both are somebody else's, and GenAI's reader of them is native code: a template may not end, may ask for all memory, or
may be nested so deep that its reader crashes. Python cannot interrupt any of it.
"""

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.errors import PressError
from olivepress.core.limits import MEMORY, bounded, crash_quietly

if TYPE_CHECKING:
    import onnxruntime_genai as og

SECONDS = 5  # of processor; the largest tokenizers take one
WAIT = 60  # seconds by the clock
PROBE = json.dumps([{"role": "user", "content": "Q"}])


def try_tokenizer(model: "og.Model", folder: Path) -> None:
    """PressError if reading the tokenizer of ``model``, or rendering a question by its chat template, ends a process.

    So does what takes longer than SECONDS, or MEMORY bytes more than this process has (on Linux). An error is left to
    whoever comes upon it, and nothing is said where the trial hardly gets to run. A fork does it, since ``model`` is
    loaded here.
    """
    child = os.fork()
    if child == 0:
        _try(model)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended not in (0, -signal.SIGALRM):
        hangs = ended == -signal.SIGPROF
        reason = f"does not end within {SECONDS} seconds" if hangs else "crashes, or takes all memory,"
        raise PressError(
            f"{folder}: ONNX Runtime GenAI {reason} over its tokenizer or its chat template: not loaded. Get the model "
            "again, or from elsewhere."
        )


def _try(model: "og.Model") -> None:
    """In the fork: never returns. What it holds of the other process is not let go of in an orderly way."""
    import onnxruntime_genai as og

    status = 0
    try:
        crash_quietly()
        for timer, number, seconds in (
            (signal.ITIMER_PROF, signal.SIGPROF, SECONDS),
            (signal.ITIMER_REAL, signal.SIGALRM, WAIT),
        ):
            signal.signal(number, signal.SIG_DFL)
            signal.setitimer(timer, seconds)
        with bounded(MEMORY):
            og.Tokenizer(model).apply_chat_template(PROBE, add_generation_prompt=True)
    except MemoryError:
        status = 1
    except Exception as error:  # a tokenizer that is none, say
        status = int("bad_alloc" in str(error))
    finally:
        os._exit(status)
