"""Real servers that tests start on free loopback ports, and end."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AZURITE = ROOT / ".services/node_modules/.bin/azurite-blob"  # `make setup-test-services` puts it there


class Azurite:
    """Azure's blob storage on one machine. Data in ``folder`` outlive ``stop``, ``kill`` and ``start``.

    ``url`` names the account in its path, as every client of an emulator expects it; a host name such as
    ``ACCOUNT.blob.core.windows.net`` in the Host header names the account, too.
    """

    account = "olivepress"
    key = "b2xpdmVwcmVzcy10ZXN0LWtleQ=="  # a made-up one: Azurite takes any base64 text

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0  # any free one; the same again after a restart
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.account}"

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};BlobEndpoint={self.url};"
        )

    def start(self) -> None:
        assert AZURITE.is_file(), f"{AZURITE} is missing: run make setup-test-services"
        self.folder.mkdir(parents=True, exist_ok=True)
        # the newest clients speak a newer API version than it knows by name
        flags = ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
        self.process = subprocess.Popen(
            [AZURITE, "--blobPort", str(self.port), "--location", self.folder, *flags],
            env={**os.environ, "AZURITE_ACCOUNTS": f"{self.account}:{self.key}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = ""
        for line in self.process.stdout:
            said += line
            if listening := re.search(r"successfully listens on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(listening[1])
                return
        raise AssertionError(f"Azurite did not start:\n{said}")

    def stop(self) -> None:
        """End it in order: what it took is on the disk."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """End it at once. What it took in the last seconds may be gone, as after a power cut."""
        self._end(subprocess.Popen.kill)

    def _end(self, how) -> None:
        if self.process:
            how(self.process)
            self.process.communicate(timeout=30)
            self.process = None


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """One Azurite for the whole run; a test makes containers of its own in it, and leaves it running."""
    server = Azurite(tmp_path_factory.mktemp("azurite"))
    server.start()
    yield server
    server.stop()
