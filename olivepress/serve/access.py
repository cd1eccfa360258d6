"""Who may ask: keys from a file or the environment, compared in a time that tells nothing of them."""

import hashlib
import hmac
import os
from pathlib import Path

from olivepress.core.errors import PressError
from olivepress.serve.errors import ApiError

ADMIN = "OLIVEPRESS_ADMIN_TOKEN"  # environment variable
SHORTEST = 16  # characters of a key
LARGEST = 2**20  # bytes of a file of keys


class Keys:
    """Some keys, kept as digests. None lets everybody in."""

    def __init__(self, keys: list[str] | None) -> None:
        self._digests = None if keys is None else [_digest(key) for key in keys]

    @property
    def open(self) -> bool:
        """Whether everybody may ask."""
        return self._digests is None

    def check(self, authorization: str | None) -> None:
        """ApiError 401 unless the header is "Bearer" and one of the keys."""
        if self._digests is None:
            return
        scheme, _, given = (authorization or "").partition(" ")
        digest = _digest(given.strip())
        # every one is compared, whichever fits
        known = [hmac.compare_digest(digest, one) for one in self._digests]
        if scheme.lower() != "bearer" or not any(known):
            raise ApiError(
                401,
                "no key, or an unknown one: Authorization: Bearer KEY.",
                "invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


def read_keys(path: Path) -> list[str]:
    """The keys in a file, one a line, "#" before what is none; PressError if there are none, or too short ones.

    No message has any of it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = [line.strip() for line in file.read(LARGEST).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise PressError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}.") from error
    keys = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not keys:
        raise PressError(f"{path}: no key in it. Expected one a line.")
    for number, key in keys:
        _check(key, f"{path}:{number}")
    return [key for _, key in keys]


def admin_keys(path: Path | None) -> list[str] | None:
    """The administrator's token, of a file or the environment; None if there is neither."""
    if path is not None:
        return read_keys(path)
    token = os.environ.get(ADMIN)
    if not token:
        return None
    _check(token, ADMIN)
    return [token]


def _check(key: str, where: str) -> None:
    if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
        raise PressError(f"{where}: expected at least {SHORTEST} characters of ASCII without spaces.")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
