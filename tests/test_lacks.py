"""What a machine lacks is said in one line, however a library says it; memory that is known to lack, beforehand."""

import contextlib
import errno
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

from olivepress.core import lacks
from olivepress.core.errors import PressError
from olivepress.core.lacks import lack, need_memory, raise_handles, total_memory
from olivepress.core.outputs import atomic_output
from olivepress.fetch.patterns import try_tokenizer

ROOT = Path(__file__).parents[1]
TINY = ROOT / "data/tiny-phi3"


class SafetensorError(Exception):
    """As safetensors' own, which has no errno."""


class PanicException(BaseException):
    """As pyo3's, of a library in Rust."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "x", "out/file"), "no disk space left while writing out/file: free some"),
        (OSError(errno.EDQUOT, "x"), "your quota is used up"),
        (OSError(errno.EFBIG, "x", "out"), "ulimit -f"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "no disk space"),
        (RuntimeError("[enforce fail at inline_container.cc:603] No space left on device"), "no disk space left"),
        (OSError("524288 requested and 375808 written"), "no disk space left while writing: free some"),
        (OSError(errno.EROFS, "x", "models"), "cannot write models: the file system is read-only"),
        (PermissionError(errno.EACCES, "x", Path("models")), "no right to use models"),
        (OSError(errno.EMFILE, "x", "a.json"), "too many open files a.json. Raise the limit (ulimit -n 1024)"),
        (sqlite3.OperationalError("database or disk is full"), "no disk space left"),
        (RuntimeError("unable to open shared memory object: Too many open files (24)"), "too many open files"),
        (PanicException("ThreadPoolBuildError: Resource temporarily unavailable"), "memory runs out"),
        (MemoryError(), "memory runs out. End what else runs"),
        (OSError(errno.ENOMEM, "x"), "memory runs out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), "memory runs out"),
        (RuntimeError("std::bad_alloc"), "memory runs out"),
        (
            RuntimeException("BFCArena: Failed to allocate memory for requested buffer of size 9"),
            "memory runs out",
        ),
        (Fail("[ONNXRuntimeError] : 1 : FAIL : GetFileLength failed: Too many open files"), "too many open files"),
        (RuntimeError("can't start new thread"), "memory runs out"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "memory runs out"),
    ],
)
def test_what_lacks_is_said(error, said):
    assert said in lack(error)
    wrapped = ValueError("cannot load it")
    wrapped.__cause__ = error
    assert said in lack(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "x"),
        ValueError("No space left on device"),
        KeyError("memory"),
        RuntimeError("shapes differ"),
        Fail("shapes differ"),
    ],
)
def test_what_is_no_lack_stays_what_it_is(error):
    assert lack(error) is None


def test_memory_that_lacks_is_said_beforehand():
    with pytest.raises(PressError, match=r"memory: the model needs at least 104857\d.\d GiB, .* GiB is free here"):
        need_memory(2**50, "the model")
    assert total_memory() > 2**20


@pytest.mark.parametrize(("limit", "said"), [(2**30, "memory: it needs at least 1.3 GiB"), (2**32, "enough")])
def test_a_limit_of_the_process_counts(limit, said):
    code = (
        "import resource\n"
        "from olivepress.core.lacks import need_memory\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))\n"
        "try:\n    need_memory(1, 'it'); print('enough')\nexcept Exception as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(said)


@pytest.mark.parametrize(
    "files",
    [
        {"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 1\ninactive_file 300\n"},
        {
            "memory/memory.limit_in_bytes": "1000\n",
            "memory/memory.usage_in_bytes": "700\n",
            "memory/memory.stat": "cache 1\ntotal_inactive_file 300\n",
        },
    ],
)
def test_the_limit_of_a_container_counts(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert list(lacks._group_limits(tmp_path)) == [(1000, 400)]
    (tmp_path / next(iter(files))).write_text("max\n")
    assert list(lacks._group_limits(tmp_path)) == []


def test_a_stage_says_what_lacks_and_leaves_earlier_output_alone(tmp_path):
    """The limit on the size of files is the system's own: what writes beyond it fails as on a full disk."""
    code = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "sys.argv[0] = 'fetch'\n"
        "runpy.run_module('stages.fetch', run_name='__main__')"
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out/earlier").write_text("kept")
    line = ["--source", TINY, "--out", tmp_path / "out", "--quality", tmp_path / "quality.json"]
    done = subprocess.run([sys.executable, "-c", code, *line], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Error: no disk space left while writing" in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["earlier", "out"]


def test_a_library_that_gets_no_memory_is_not_the_models_fault(tmp_path):
    code = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))\n"
        "sys.argv[0] = 'prepare'\n"
        "runpy.run_module('stages.prepare', run_name='__main__')"
    )
    line = [
        "--data",
        ROOT / "data/travel-tiny.jsonl",
        "--model",
        TINY,
        "--out",
        tmp_path / "o",
        "--quality",
        tmp_path / "q",
    ]
    done = subprocess.run([sys.executable, "-c", code, *line], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Error: memory runs out" in done.stderr and "Fetch the model again" not in done.stderr


def test_address_space_that_a_limit_leaves(monkeypatch):
    monkeypatch.setattr(lacks, "_free_address_space", lambda: 6 * 2**30)
    lacks.need_address_space(6 * 2**30, "drawing")
    with pytest.raises(PressError, match=r"drawing needs 65 GiB of address space, of which 6\.0 GiB is free.*ulimit"):
        lacks.need_address_space(65 * 2**30, "drawing")
    monkeypatch.setattr(lacks, "_free_address_space", lambda: None)
    lacks.need_address_space(2**60, "drawing")


def test_a_database_that_cannot_be_opened_is_said_to_lack_handles_where_there_are_few():
    """SQLite gives no reason: it may be any."""
    error = sqlite3.OperationalError("unable to open database file")
    assert lack(error) is None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
        assert "too many open files" in lack(error)
        raise_handles()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def no_handles():
    """Within the block this process can open nothing; what is open stays so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_lack_of_handles_is_not_the_tokenizers_fault():
    try_tokenizer(TINY)
    with no_handles(), pytest.raises(OSError, match="Too many open files"):
        try_tokenizer(TINY)


def test_what_is_half_written_is_removed_where_handles_lack(tmp_path):
    with no_handles(), pytest.raises(OSError, match="Too many open files"), atomic_output(tmp_path / "out") as scratch:
        scratch.mkdir()
        (scratch / "one").mkdir()
        (scratch / "two").write_text("x")
    assert not list(tmp_path.iterdir())
