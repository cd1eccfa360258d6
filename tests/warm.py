"""`dvc` and `olivepress` from a process that has them loaded: each such command is a fork of it.

A start of DVC is one to two seconds of a core, nearly all of it for imports, and the tests start it hundreds of times.
What runs is the command's own ``__main__``, in a process of its own, with the caller's folder, environment and files;
only the imports are not repeated. Commands that a test signals, measures or changes the imports of are started as
users start them.
"""

import array
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

COMMANDS = ("dvc", "olivepress")
PACKAGES = ("dvc", "dvc_data", "dvc_objects", "scmrepo", "olivepress.core", "olivepress.release", "olivepress.remote")
# what those import when they are first used
LATER = ("networkx", "pygit2", "dulwich.porcelain", "dulwich.worktree", "fsspec.implementations.memory", "pyparsing")
LATER += ("rich", "ruamel.yaml", "dvc_s3", "s3fs", "dvc_ssh", "sshfs", "dvc_azure", "adlfs")
# read by Python or by what is loaded before a command runs: with these set otherwise, it must load anew
EARLY = ("PYTHONPATH", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONIOENCODING", "LC_ALL", "LANG")
LENGTH = 8  # bytes before a message, which say how long it is
# sys.executable of such a command: what it starts in turn (`olivepress release make` starts DVC) is a fork, too
PYTHON = """#!{python} -IS
import json, os, socket, sys

words = sys.argv[2:]
if sys.argv[1:2] != ["-m"] or words[:1] not in ([name] for name in {commands}):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
connection = socket.socket(socket.AF_UNIX)
connection.connect({path!r})
asked = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(connection, [len(asked).to_bytes({length}, "big")], [0, 1, 2])
connection.sendall(asked)
status = int.from_bytes(connection.recv({length}), "big", signed=True)
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


def takes(command: list[str], environment: dict[str, str]) -> list[str] | None:
    """``command`` as a module and its arguments, if it is one of COMMANDS and may be a fork; else None."""
    words = command[2:] if command[0] in ("python", sys.executable) and command[1:2] == ["-m"] else command
    same = all(environment.get(name) == os.environ.get(name) for name in EARLY)
    return words if same and words[:1] and words[0] in COMMANDS else None


class Warm:
    """A server of such commands, one at a time or several; ``close`` ends it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = f"{self._folder.name}/socket"
        python = Path(self._folder.name, "python")
        python.write_text(PYTHON.format(python=sys.executable, commands=COMMANDS, path=self._path, length=LENGTH))
        python.chmod(0o755)
        ours, theirs = os.pipe()
        self._process = subprocess.Popen([sys.executable, __file__, self._path, str(theirs)], pass_fds=[theirs])
        os.close(theirs)
        with os.fdopen(ours, "rb") as ready:
            if ready.read() != b"ready":
                raise AssertionError("the process that keeps DVC loaded did not start: see above")

    def run(self, words: list[str], cwd: Path, environment: dict[str, str], input: str | None = None):
        """What `subprocess.run(words, ..., capture_output=True, text=True)` returns."""
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            files[0].write((input or "").encode())
            files[0].seek(0)
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(self._path)
            asked = json.dumps([words, str(cwd), environment]).encode()
            socket.send_fds(connection, [len(asked).to_bytes(LENGTH, "big")], [file.fileno() for file in files])
            connection.sendall(asked)
            answer = connection.recv(LENGTH)
            if not answer:
                raise AssertionError(f"{' '.join(words)}: the process that keeps DVC loaded has ended")
            output = []
            for file in files[1:]:
                file.seek(0)
                output.append(file.read().decode().replace("\r\n", "\n"))
            return subprocess.CompletedProcess(words, int.from_bytes(answer, "big", signed=True), *output)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()


def modules() -> Iterator[str]:
    """The names of what is loaded in advance."""
    yield from ("dvc.cli.parser", "olivepress.cli")
    for package in PACKAGES:
        yield package
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__") and ".testing" not in module.name:
                yield module.name
    yield from LATER


def serve(path: str, ready: int) -> None:
    """Load, listen at ``path``, say "ready" into ``ready``, and fork for each connection until a signal ends this."""
    for name in modules():
        with contextlib.suppress(ImportError):  # an option of DVC's that is not installed
            importlib.import_module(name)
    gc.freeze()  # a child's garbage collection leaves it alone: else each would copy all of it at its end, in a second
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    os.write(ready, b"ready")
    os.close(ready)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who answers a connection
    parent = os.getppid()
    while os.getppid() == parent:  # a worker that was killed takes this with it
        if not select.select([listener], [], [], 2)[0]:
            continue
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(connection, str(Path(path).with_name("python")))
            return
        connection.close()


def answer(connection: socket.socket, python: str) -> None:
    """Fork once more for the command itself; send its exit status, as subprocess has it, and end."""
    head, files, _, _ = socket.recv_fds(connection, LENGTH, 3)
    length, asked = int.from_bytes(head, "big"), bytearray()
    while len(asked) < length:
        asked += connection.recv(length - len(asked))
    command = os.fork()
    if not command:
        connection.close()
        become(*json.loads(asked), files, python)
    ended = os.pidfd_open(command)
    if connection in select.select([ended, connection], [], [])[0]:  # nobody waits for it any more
        os.kill(command, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(status.to_bytes(LENGTH, "big", signed=True))
    os._exit(0)


def become(words: list[str], cwd: str, environment: dict[str, str], files: array.array, python: str) -> None:
    """Run `python -m WORDS` in this process, and end it as Python would."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, sys.executable = words[:], python
    sys.path[0] = ""  # as -m has it: the folder that the command runs in
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which ends this
    serve(sys.argv[1], int(sys.argv[2]))
