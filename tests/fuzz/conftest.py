"""How many inputs are tried, and what none of them may do: take ten seconds or a gibibyte, or end the process.

``make fuzz`` tries 10,000 for each test, others every time; anything else 500, always the same.
"""

import faulthandler
import multiprocessing
import os
import resource
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, settings

from olivepress.core import limits
from olivepress.core.errors import PressError
from olivepress.core.limits import limited

COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("ci", max_examples=250, derandomize=True, database=None, **COMMON)
settings.register_profile("fuzz", max_examples=10_000, print_blob=True, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

SECONDS, MEMORY = 10, 2**30
# What a foreign program gets here: what needs more is refused in the same way, only sooner (inputs/test_limits.py).
PROGRAM_SECONDS, PROGRAM_MEMORY = 2, 2**26

Answered = Callable[..., Any]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Run a test in a process of its own: an input that ends it is a failed test that names it, no dead worker.

    Native libraries crash where memory ends, and on what they did not foresee; who tests them so cannot know when.
    """
    context = multiprocessing.get_context("fork")
    heard, says = context.Pipe(duplex=False)
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    with tempfile.TemporaryFile("w+") as trace:
        child = context.Process(target=_run, args=(pyfuncitem.obj, arguments, trace, heard, says))
        child.start()
        says.close()
        try:
            failed = heard.recv()
        except EOFError:
            child.join()
            trace.seek(0)
            inputs = pyfuncitem.funcargs.get("place", "the template is not kept")
            failed = f"its process ended with {child.exitcode}. The last input: {inputs}\n{trace.read(4000)}"
        finally:
            child.kill()
            child.join()
    if failed:
        pytest.fail(failed, pytrace=False)
    return True


def _run(test: Callable[..., None], arguments: dict[str, Any], trace: IO[str], heard: Connection, says: Connection):
    heard.close()
    faulthandler.enable(trace)
    limits.SECONDS, limits.MEMORY = PROGRAM_SECONDS, PROGRAM_MEMORY
    try:
        test(**arguments)
    except BaseException as error:  # of Rust, of pytest and of hypothesis, too
        says.send("".join(traceback.format_exception(error)))
    else:
        says.send("")


@pytest.fixture(scope="session")
def answered() -> Answered:
    """Calls a function; returns what it does, or the PressError by which it refuses. Anything else is a fault.

    So are 10 seconds, and 1 GiB more than this process has, or one that it starts.
    """

    def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        before = _most_memory()
        try:
            with limited(SECONDS):
                return function(*arguments, **options)
        except PressError as error:
            assert error.message.strip(), "a refusal says why"
            return error
        finally:
            assert _most_memory() - before < MEMORY, "it takes more than a GiB"

    return call


def _most_memory() -> int:
    """The most bytes that this process has had, or one that it started and that has ended."""
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Template and tokenizer, where they are ours, run in the test's process: forks take most of the time."""
    from olivepress.data import encode
    from olivepress.quantize import calibration

    def each_here(function: Callable[[], Iterable[Any]], *_: Any, **__: Any) -> Iterator[Any]:
        yield from function()

    for module in (encode, calibration):
        monkeypatch.setattr(module, "each_apart", each_here)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the one file of an example: each overwrites the one before."""
    return tmp_path_factory.mktemp("fuzz")
