"""Signatures by OpenSSH's ssh-keygen -Y: offline, on every machine that has git over SSH, with keys people have.

It is also what git signs commits with (gpg.format=ssh). Who may sign is a file in OpenSSH's allowed_signers format:
``name@example.org ssh-ed25519 AAAA…``, one a line.
"""

from pathlib import Path

from olivepress.core.errors import PressError
from olivepress.core.process import run

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
    return run(["ssh-keygen", "-Y", action, *arguments], stdin=stdin).stdout.decode()
