"""A local Azure, and releases to publish to it. The code under test runs as a user has it: only the environment points
to the proxy, its CA and a service principal."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cloud as azure
import pytest
from cloud import Cloud
from front import Front
from services import Azurite

from olivepress.core.outputs import sha256

# an account, a proxy or a workspace of this machine must not leak in
FOREIGN = ("AZURE", "ARM_", "IDENTITY_", "MSI_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "AZUREML")


@pytest.fixture(scope="session")
def front_and_cloud(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Front, Cloud]]:
    local = Cloud(azurite)
    front = Front(tmp_path_factory.mktemp("front"), local.services)
    yield front, local
    front.close()


@pytest.fixture
def front(front_and_cloud, monkeypatch, tmp_path) -> Iterator[Front]:
    """The proxy, empty of calls and faults, and the environment that leads to it; nothing may ask for another host."""
    front, local = front_and_cloud
    front.calls.clear()
    front.faults.clear()
    front.refused.clear()
    local.reset()
    for name in list(os.environ):
        if name.upper().startswith(FOREIGN):
            monkeypatch.delenv(name)
    settings = {
        "HTTPS_PROXY": front.url,
        "HTTP_PROXY": front.url,
        "REQUESTS_CA_BUNDLE": str(front.bundle),
        "HOME": str(tmp_path),  # no login of this machine's user
        **dict(zip(azure.CREDENTIAL_NAMES, (azure.TENANT, azure.CLIENT, azure.SECRET), strict=True)),
        **dict(zip(azure.WORKSPACE_NAMES, (azure.SUBSCRIPTION, azure.GROUP, azure.WORKSPACE), strict=True)),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    yield front
    unused = [fault for fault in front.faults if fault.times]
    assert not unused, f"faults that never happened: {unused}"
    assert not front.refused


@pytest.fixture
def cloud(front, front_and_cloud) -> Cloud:
    """What the local Azure holds."""
    return front_and_cloud[1]


@pytest.fixture
def release(tmp_path) -> "Release":
    return Release(tmp_path / "cpu-int4")


class Release:
    """A folder with the files and the manifest of a release, and the listing of what is published."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path, text in {"model/model.onnx": b"graph", "model/model.onnx.data": b"\0\1\2\3" * 300_000}.items():
            self.write(path, text)
        for adapter in ("travel", "cooking"):
            self.write(f"adapters/{adapter}.onnx_adapter", adapter.encode() * 1000)
        self.write("README.md", b"# a card")
        self.write(".gitignore", b"/model\n/adapters\n")  # DVC writes such a one; it must not hide the files
        self.seal()

    def write(self, path: str, content: bytes) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(content)

    def seal(self) -> None:
        """Write the manifest of what lies there now."""
        names = [f"{part}/{path.name}" for part in ("model", "adapters") for path in (self.folder / part).iterdir()]
        self.manifest = {
            "name": "ft-for-travel",
            "version": "0.1.0",
            "target": "cpu-int4",
            "adapters": ["travel", "cooking"],
            "licence": "MIT",
            "base": {"source": "data/tiny-phi3", "architecture": "Phi3ForCausalLM"},
            "files": {name: {"sha256": sha256(self.folder / name)} for name in sorted(names)},
            "quality": {
                "evaluate": {
                    "travel": {
                        "held_out": {
                            "loss": {"quantized_onnx": 9.5, "finetuned_onnx": 5.0137},
                            "same_top_token": {"quantized": 0.98, "finetuned": 0.97},
                        }
                    }
                },
                "evaluate-base": {"general": {"loss": {"quantized_onnx": 0.52}, "same_top_token": {"quantized": 0.98}}},
            },
        }
        self.write("manifest.json", json.dumps(self.manifest).encode())
        self.files = [*sorted(names), "manifest.json", "README.md"]

    def copy(self, folder: Path) -> "Release":
        shutil.copytree(self.folder, folder)
        copy = Release.__new__(Release)
        copy.folder, copy.manifest, copy.files = folder, self.manifest, self.files
        return copy

    def content(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in self.files}
