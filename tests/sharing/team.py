"""What a team does with a DVC remote: connect to it, clone, commit."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from servers import BUCKET, S3Server, SshServer
from services import Azurite


@dataclass
class Remote:
    """A DVC remote: what goes into git, what into .dvc/config.local, what into the environment."""

    url: str
    settings: dict[str, str] = field(default_factory=dict)
    local: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)

    def credentials(self, space) -> None:
        """Give the clone ``space`` the credentials, outside git."""
        space.environment |= self.environment
        if self.local:
            space.write(".dvc/config.local", section(self.local))

    def connect(self, space) -> None:
        """Make this the default remote of ``space`` and commit that; what `dvc remote` would write, in one go."""
        space.run("git", "checkout", "-q", "HEAD", ".dvc/config")
        config = space.read(".dvc/config").replace("[core]\n", "[core]\n    remote = storage\n", 1)
        space.write(".dvc/config", config + section({"url": self.url, "verify": "true", **self.settings}))
        self.credentials(space)
        commit(space, "Share by a remote")


def section(settings: dict[str, str]) -> str:
    """The remote's part of a DVC configuration file."""
    return "['remote \"storage\"']\n" + "".join(f"    {key} = {value}\n" for key, value in settings.items())


def change(space, key: str, value: str, *, local: bool = False) -> None:
    """`dvc remote modify`, without committing."""
    space.run("dvc", "remote", "modify", *(["--local"] if local else []), "storage", key, value)


def commit(space, message: str) -> None:
    space.run("git", "add", "--all")
    space.run("git", "commit", "-q", "--allow-empty", "-m", message)


def clone(source, folder: Path):
    """A git clone as a colleague has it: no DVC cache, no local configuration."""
    source.run("git", "clone", "-q", source.folder, folder)
    space = type(source)(folder)
    identify(space)
    return space


def identify(space) -> None:
    space.run("git", "config", "user.name", "Press Test")
    space.run("git", "config", "user.email", "press@localhost")


def folder_remote(folder: Path) -> Remote:
    (folder / "storage").mkdir()
    return Remote(str(folder / "storage"))


def s3_remote(server: S3Server, path: str, port: int | None = None) -> Remote:
    """``port``: a proxy's, in place of the server's own."""
    return Remote(
        f"s3://{BUCKET}/{path}",
        settings={"endpointurl": f"http://127.0.0.1:{port or server.port}"},
        environment=server.environment(),
        secrets=[server.secret("owner")],
    )


def ssh_remote(server: SshServer, folder: Path, port: int | None = None) -> Remote:
    storage = folder / "storage"
    storage.mkdir()
    key = server.folder / "user_key"
    return Remote(
        f"ssh://127.0.0.1{storage}",
        settings={"port": str(port or server.port)},
        local={"keyfile": str(key)},
        secrets=[str(key), *key.read_text().splitlines()[1:-1]],
    )


def azure_remote(azurite: Azurite) -> Remote:
    """A container of its own."""
    from azure.storage.blob import BlobServiceClient

    container = f"press-{token_hex(4)}"
    with BlobServiceClient.from_connection_string(azurite.connection_string) as client:
        client.create_container(container)
    return Remote(
        f"azure://{container}/team",
        environment={"AZURE_STORAGE_CONNECTION_STRING": azurite.connection_string},
        secrets=[azurite.key],
    )


RELEASE = (sys.executable, "-m", "olivepress", "release", "make")


def open_shop(project, folder: Path):
    """A copy of ``project`` in ``folder``/shop, with ``folder``/origin.git and a DVC remote in ``folder``/storage."""
    space = project.copy(folder / "shop")
    folder_remote(folder).connect(space)
    space.run("git", "clone", "-q", "--bare", ".", folder / "origin.git")
    space.run("git", "remote", "set-url", "origin", folder / "origin.git")
    space.run("git", "fetch", "-q", "origin")
    space.run(
        "git", "branch", "--set-upstream-to", f"origin/{space.run('git', 'branch', '--show-current').stdout.strip()}"
    )
    return space


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def make_model_key(path: Path) -> None:
    """A private key of an elliptic curve, and its public key beside it (.pub), as PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    key = generate_private_key(SECP256R1())
    pem = serialization.Encoding.PEM
    private = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(pem, *private))
    path.with_name(f"{path.name}.pub").write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def signer(who: str, key: Path) -> str:
    """A line of an allowed_signers file."""
    return f"{who} {' '.join(Path(f'{key}.pub').read_text().split()[:2])}\n"
