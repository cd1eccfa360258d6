"""Signatures by OpenSSH's ssh-keygen -Y: offline, on every machine that has git over SSH, with keys people have.

It is also what git signs commits with (gpg.format=ssh). Who may sign is a file in OpenSSH's allowed_signers format:
``name@example.org ssh-ed25519 AAAA…``, one a line.
"""

import subprocess
from pathlib import Path

from olivepress.errors import PressError

NAMESPACE = "olive-press-release"  # a signature made for something else does not count


def sign(path: Path, key: Path) -> Path:
    """Sign a file with an SSH private key; returns the signature's path, the file's with .sig added."""
    signature = path.with_name(f"{path.name}.sig")
    signature.unlink(missing_ok=True)
    _keygen("sign", "-f", str(key), "-n", NAMESPACE, str(path))
    return signature


def verify(content: bytes, signature: Path, signers: Path) -> str:
    """Who signed ``content``; PressError unless ``signature`` is a good one by somebody in ``signers``."""
    try:
        found = _keygen("find-principals", "-s", str(signature), "-f", str(signers))
    except PressError as error:
        raise PressError(f"{signature.name}: not made with a key of {signers}.") from error
    who = found.splitlines()[0]
    try:
        _keygen("verify", "-f", str(signers), "-I", who, "-n", NAMESPACE, "-s", str(signature), stdin=content)
    except PressError as error:
        raise PressError(f"{signature.name}: {who}'s signature does not fit the file: it was changed.") from error
    return who


def _keygen(action: str, *arguments: str, stdin: bytes = b"") -> str:
    try:
        done = subprocess.run(["ssh-keygen", "-Y", action, *arguments], input=stdin, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise PressError("ssh-keygen is missing: install openssh-client (apt-get install openssh-client).") from error
    if done.returncode:
        raise PressError(f"ssh-keygen -Y {action}: {' '.join(done.stderr.decode(errors='replace').split())}")
    return done.stdout.decode()
