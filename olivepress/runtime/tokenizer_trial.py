"""A model folder's tokenizer and chat template, used where they can be killed.

Both are somebody else's, and GenAI's reader of them is native code: a template may not end, be it for one question in a
thousand, may ask for all memory, or may be nested so deep that its reader crashes. Python cannot interrupt any of it.
So a fork does it: the model is loaded here, and a fork shares it. It takes some milliseconds.
"""

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from olivepress.core.errors import PressError
from olivepress.core.lacks import raise_handles
from olivepress.core.limits import MEMORY, bounded, crash_quietly, signals_later

if TYPE_CHECKING:
    import onnxruntime_genai as og

SECONDS = 5  # of processor; the largest tokenizers take one
WAIT = 60  # seconds by the clock
PROBE = json.dumps([{"role": "user", "content": "Q"}])
LEAST_ROOM = 2**20  # bytes that a rendered conversation may have, besides sixteen times its own
# Exit statuses of the fork
MEMORY_RAN_OUT, TOO_LONG, FAILED = 1, 2, 3


def try_tokenizer(model: "og.Model", folder: Path) -> None:
    """PressError if reading the tokenizer of ``model``, or rendering a question by its chat template, ends a process.

    So does what takes longer than SECONDS, or MEMORY bytes more than this process has (on Linux). An error is left to
    whoever comes upon it, and nothing is said where the trial hardly gets to run.
    """
    import onnxruntime_genai as og

    ended, _ = _forked(lambda: og.Tokenizer(model).apply_chat_template(PROBE, add_generation_prompt=True))
    if ended in (MEMORY_RAN_OUT, -signal.SIGPROF) or (ended < 0 and ended != -signal.SIGALRM):
        raise PressError(
            f"{folder}: ONNX Runtime GenAI {_reason(ended)} over its tokenizer or its chat template: not loaded. Get "
            "the model again, or from elsewhere."
        )


def render_bounded(tokenizer: "og.Tokenizer", messages: str) -> str:
    """``messages`` (JSON) by the tokenizer's chat template, up to where the answer begins.

    PressError if that takes longer than SECONDS, MEMORY bytes more than this process has, or ends a process, and for
    more than a MiB and sixteen times the messages; RuntimeError is GenAI's own.
    """
    most = LEAST_ROOM + 16 * len(messages)
    ended, said = _forked(lambda: tokenizer.apply_chat_template(messages, add_generation_prompt=True), most)
    if ended == FAILED:
        raise RuntimeError(said)
    if ended:
        raise PressError(
            f"the model's chat template: ONNX Runtime GenAI {_reason(ended, most)} over these messages. Ask otherwise, "
            "or get the model from elsewhere."
        )
    return said


def _reason(ended: int, most: int = 0) -> str:
    if ended == -signal.SIGPROF:
        return f"does not end within {SECONDS} seconds"
    if ended == -signal.SIGALRM:
        return f"does not end within {WAIT} seconds, in which it hardly ran,"
    if ended == TOO_LONG:
        return f"writes more than {most:,} bytes"
    return "crashes, or takes all memory,"


def _forked(work: Callable[[], str], most: int = LEAST_ROOM) -> tuple[int, str]:
    """How a fork ended that did ``work`` (an exit status, or less a signal's number), and what it returned or said."""
    reader, writer = os.pipe()
    with signals_later():
        child = os.fork()
        if child == 0:
            _run(work, most, writer)
    try:
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read()
        ended = os.waitpid(child, 0)[1]
    except BaseException:  # a signal: nobody waits for it any more
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        raise
    return os.waitstatus_to_exitcode(ended), said.decode("utf-8", "surrogatepass")


def _run(work: Callable[[], str], most: int, writer: int) -> NoReturn:
    """In the fork. What it holds of the other process is not let go of in an orderly way."""
    status, text = 0, b""
    try:
        for number in (signal.SIGTERM, signal.SIGINT):  # not as this program answers them
            signal.signal(number, signal.SIG_DFL)
        raise_handles()  # it may be the last one that /dev/null takes
        crash_quietly()
        for timer, number, seconds in (
            (signal.ITIMER_PROF, signal.SIGPROF, SECONDS),
            (signal.ITIMER_REAL, signal.SIGALRM, WAIT),
        ):
            signal.signal(number, signal.SIG_DFL)
            signal.setitimer(timer, seconds)
        with bounded(MEMORY):
            text = work().encode("utf-8", "surrogatepass")
        status = TOO_LONG if len(text) > most else 0
    except MemoryError:
        status = MEMORY_RAN_OUT
    except BaseException as error:  # a tokenizer that is none, say
        status, text = (MEMORY_RAN_OUT, b"") if "bad_alloc" in str(error) else (FAILED, str(error).encode()[:most])
    finally:
        try:
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(text[:most] if status in (0, FAILED) else b"")
        finally:
            os._exit(status)
