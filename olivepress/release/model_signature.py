"""OpenSSF's model signing: one signature over every file of a release, which model_signing's command line checks.

That is for those who have the files and neither git nor this project. The key is an elliptic curve's (PEM): it works
offline. Sigstore's keyless signatures ask its servers, and are left to who wants them (`model_signing sign sigstore`).
"""

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from olivepress.core.errors import PressError, first_sentence

SIGNATURE = "model.sig"


def sign_model(folder: Path, files: Iterable[str], name: str, key: Path, signature: Path) -> None:
    """Write to ``signature`` a signature over ``files`` of ``folder``, and no others, with the private key in ``key``.

    ``name``: what it calls them together. PressError for a key that is none of P-256, P-384 or P-521, or that has a
    password.
    """
    from model_signing.signing import Config

    try:
        config = Config().use_elliptic_key_signer(private_key=key)
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise PressError(
            f"{key}: not a private key that model_signing takes ({first_sentence(error)}). Make one: "
            "openssl ecparam -name prime256v1 -genkey -noout"
        ) from error
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        _link(folder, files, Path(scratch) / name)
        config.sign(Path(scratch) / name, signature)


def _link(folder: Path, files: Iterable[str], out: Path) -> None:
    """The ``files`` of ``folder`` in ``out`` alone: what else lies there (.gitignore) a consumer does not get."""
    for name in files:
        place, source = out / name, (folder / name).resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # another file system, or one without hard links
            place.hardlink_to(source)
            continue
        shutil.copyfile(source, place)


def verify_model(folder: Path, signature: Path, key: Path) -> None:
    """PressError unless ``signature`` is of exactly the files in ``folder``, by the owner of the public ``key``."""
    from model_signing.verifying import Config

    try:
        Config().use_elliptic_key_verifier(public_key=key).verify(folder, signature)
    except Exception as error:  # model_signing names no exceptions of its own: cryptography's, JSON's, ValueError
        raise PressError(
            f"{signature.name}: does not verify with {key}: {str(error) or type(error).__name__}"
        ) from error
