"""Somebody else's program gets so much time and memory: what takes more is stopped, and nothing of the limit stays."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from tokenizers import Regex, pre_tokenizers

from olivepress.core.errors import PressError
from olivepress.core.limits import TooMuch, apart, each_apart, limited

ROOT = Path(__file__).parents[2]


@pytest.fixture
def children():
    """The processes that this one has begun since the test did: other tests' servers are none of them."""
    before = set(psutil.Process().children())
    return lambda: set(psutil.Process().children()) - before


def endless() -> None:
    while True:
        pass


def state() -> tuple:
    return resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)


def test_what_does_not_end_is_stopped():
    before = state()
    with pytest.raises(TooMuch, match=r"does not end within 0.2 seconds"), limited(0.2):
        endless()
    assert state() == before


def test_what_takes_too_much_memory_is_stopped():
    before = state()
    with pytest.raises(TooMuch, match="takes more than 64 MiB of memory"), limited(5, 2**26):
        bytearray(2**30)
    assert state() == before
    assert len(bytearray(2**27)) == 2**27


def test_an_error_passes_and_a_timer_of_somebody_elses_goes_on():
    called = []
    before = signal.signal(signal.SIGALRM, lambda *_: called.append(1))
    kept = signal.setitimer(signal.ITIMER_REAL, 100, 5)
    try:
        with pytest.raises(ValueError, match="own"), limited(0.2):
            raise ValueError("own")
        left, again = signal.getitimer(signal.ITIMER_REAL)
        assert 90 < left <= 100
        assert again == 5
        signal.raise_signal(signal.SIGALRM)
        assert called == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *kept)


# ---- in a process of its own


def test_values_and_errors_come_back():
    here = os.getpid()
    assert apart(os.getpid) != here
    assert list(each_apart(lambda: (number**2 for number in range(3)))) == [0, 1, 4]
    with pytest.raises(PressError, match=r"^row 3: as it was said$"):
        apart(lambda: refuse("row 3: as it was said"))
    with pytest.raises(FileNotFoundError) as caught:
        apart(lambda: Path("/nowhere").read_bytes())
    assert caught.value.filename == "/nowhere"


def refuse(text: str) -> None:
    raise PressError(text)


class Odd(Exception):
    """As errors of libraries that cannot be pickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_an_error_that_cannot_be_sent_says_the_same():
    def fail() -> None:
        raise Odd(1, 2)

    with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
        apart(fail)


def test_a_panic_of_rusts_is_a_refusal(capfd):
    def panic() -> None:
        pre_tokenizers.Split(Regex("(a+)+$"), "isolated").pre_tokenize_str("a" * 40 + "b")

    with pytest.raises(TooMuch, match=r"^ends in an error of its library \(Onig: Regex search error: retry-limit"):
        apart(panic)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("never", [endless, lambda: sum(range(10**12)), lambda: time.sleep(1000)])
def test_what_cannot_be_interrupted_is_killed_with_its_process(never, children):
    with pytest.raises(TooMuch, match=r"^does not end within 0.2 seconds$"):
        apart(never, 0.2)
    assert not children()


def test_each_value_has_its_time_and_all_have_theirs(children):
    def slow():
        for number in range(100):
            time.sleep(0.05)
            yield number

    seen = []
    with pytest.raises(TooMuch, match=r"does not end within 0.3 seconds"):
        seen.extend(each_apart(slow, 10, whole=0.3))
    with pytest.raises(TooMuch, match=r"does not end within 0.01 seconds"):
        seen.extend(each_apart(slow, 0.01))
    assert not children()


def test_a_process_that_hardly_ran_gets_more_time(children):
    def stopped():
        os.kill(os.getpid(), signal.SIGSTOP)
        return "done"

    def go_on():
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for child in children():
                if child.status() == psutil.STATUS_STOPPED:
                    time.sleep(0.4)
                    child.resume()
                    return
            time.sleep(0.01)

    with ThreadPoolExecutor() as pool:
        pool.submit(go_on)
        assert apart(stopped, 0.2) == "done"


def test_what_takes_too_much_memory_is_stopped_apart():
    before = state()
    with pytest.raises(TooMuch, match="takes more than 64 MiB of memory"):
        apart(lambda: bytearray(2**30), memory=2**26)
    with pytest.raises(TooMuch, match="takes more memory than there is"):
        apart(lambda: bytearray(2**60))
    assert state() == before


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "Segmentation fault"),
        (os.abort, "Aborted"),
        (lambda: os._exit(3), "status 3"),
        (lambda: os._exit(0), "status 0"),
    ],
)
def test_a_process_that_dies_is_no_end_of_this_one(end, said):
    with pytest.raises(TooMuch, match=rf"^ends the process that does it \({said}\)$"):
        apart(end)


def test_who_stops_listening_leaves_no_process(children):
    values = each_apart(lambda: iter(int, 1))
    assert [next(values), next(values)] == [0, 0]
    assert len(children()) == 1
    values.close()
    assert not children()


def test_who_is_killed_leaves_no_process_that_goes_on():
    code = (
        "import os, signal\n"
        "from olivepress.core.limits import each_apart\n"
        "values = each_apart(lambda: (os.getpid() for _ in iter(int, 1)))\n"
        "print(next(values), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    with contextlib.suppress(psutil.NoSuchProcess):  # it ends with its next value, which nobody reads
        psutil.Process(int(done.stdout)).wait(60)
