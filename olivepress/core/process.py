"""Other programs, called as commands: one way to run them and one way to say that they failed."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from olivepress.core.errors import PressError

# how a line begins with which git (and what it reaches), dvc and others say what is wrong
ERRORS = ("error", "fatal", "remote:")
PACKAGES = {"git": "git", "ssh-keygen": "openssh-client"}  # Debian's, for programs that users may lack
MOST = 400  # characters of them that a message carries


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    stdin: bytes = b"",
    show: bool = False,
    check: bool = True,
    name: str | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run ``command`` (no shell) in ``cwd`` to its end; ``stdout`` and ``stderr`` of what is returned are its output.

    With ``show`` its output goes where this process's goes, and its input comes from there. A program that is not
    installed is a PressError, and with ``check`` any exit status but 0, too: ``name`` (default: the command's first
    three words), then the command's last words.
    """
    streams = {} if show else {"input": stdin, "capture_output": True}
    try:
        done = subprocess.run(list(map(str, command)), cwd=cwd, check=False, **streams)
    except FileNotFoundError as error:
        if cwd and not cwd.is_dir():
            raise
        package = PACKAGES.get(str(command[0]))
        how = f"the package {package} (apt-get install {package})" if package else "it, or put it on PATH"
        raise PressError(f"{command[0]} is missing: install {how}.") from error
    if check and done.returncode:
        raise PressError(f"{name or ' '.join(map(str, command[:3]))}: {last_words(done)}")
    return done


def last_words(done: subprocess.CompletedProcess[bytes]) -> str:
    """What a command that failed says is wrong: its lines that name an error, else its last three, else its status."""
    output = (done.stdout or b"") + b"\n" + (done.stderr or b"")
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(ERRORS)] or lines[-3:]
    return " ".join(" ".join(errors).split())[-MOST:] or f"exit status {done.returncode}"
