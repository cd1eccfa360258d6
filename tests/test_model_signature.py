"""Signatures over a folder of files by OpenSSF's model signing: made here, checked by its own command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from olivepress.core.errors import PressError
from olivepress.release.model_signature import sign_model, verify_model

FILES = ["cpu/manifest.json", "cpu/model/model.onnx"]
PEM = serialization.Encoding.PEM


def make_key(path: Path, key) -> Path:
    """The private key in ``path``, the public one beside it; returns the latter's path."""
    private = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(PEM, *private))
    public = path.with_suffix(".pub")
    public.write_bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return public


@pytest.fixture
def signed(tmp_path) -> tuple[Path, Path, Path]:
    """(folder with exactly the signed files, signature, public key)."""
    tree = tmp_path / "models/onnx"
    for name in [*FILES, "cpu/.gitignore", "cpu/model/left-over"]:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    public = make_key(tmp_path / "key.pem", ec.generate_private_key(ec.SECP256R1()))
    sign_model(tree, FILES, "ft", tmp_path / "key.pem", tmp_path / "model.sig")
    assert list((tmp_path / "models").iterdir()) == [tree], "the copy that was signed is gone"
    for name in ("cpu/.gitignore", "cpu/model/left-over"):
        (tree / name).unlink()
    return tree, tmp_path / "model.sig", public


def test_its_own_command_line_verifies_what_consumers_get(signed):
    folder, signature, public = signed
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    command += ["--signature", str(signature), "--public_key", str(public)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Verification succeeded" in done.stdout + done.stderr


def surplus(folder: Path) -> None:
    (folder / "cpu/more.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / FILES[1]).write_text("changed"), "model.onnx"),
        (lambda folder: (folder / FILES[0]).unlink(), "manifest.json"),
        (surplus, "more.json"),
    ],
    ids=["changed", "missing", "surplus"],
)
def test_other_files_do_not_verify(signed, change, named):
    verify_model(*signed)
    change(signed[0])
    with pytest.raises(PressError, match=rf"model\.sig: does not verify with .*key\.pub: .*{named}"):
        verify_model(*signed)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000], ids=range(5))
def test_what_is_no_signature_does_not_verify(signed, content):
    signed[1].write_bytes(content)
    with pytest.raises(PressError, match=r"model\.sig: does not verify"):
        verify_model(*signed)


def test_another_ones_key_does_not_verify(signed, tmp_path):
    other = make_key(tmp_path / "other.pem", ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(PressError, match=r"model\.sig: does not verify with .*other\.pub"):
        verify_model(signed[0], signed[1], other)


def test_a_key_of_another_kind_is_refused_with_what_to_do(signed, tmp_path):
    make_key(tmp_path / "ssh.pem", ed25519.Ed25519PrivateKey.generate())
    make_key(tmp_path / "bitcoin.pem", ec.generate_private_key(ec.SECP256K1()))
    (tmp_path / "none.pem").write_text("no key")
    for name in ("ssh.pem", "bitcoin.pem", "none.pem", "missing.pem"):
        with pytest.raises(PressError, match=rf"{name}: not a private key that model_signing takes.*openssl ecparam"):
            sign_model(signed[0], FILES, "ft", tmp_path / name, tmp_path / "other.sig")
    assert not (tmp_path / "other.sig").exists()
