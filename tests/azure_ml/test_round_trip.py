"""What a user sees, through our code and the SDK alone: against the local Azure, or a real workspace.

tests/azure_ml/live.sh runs this file against the workspace that the environment names. There it leaves archived
versions of one model, whose name starts with olivepress-test.
"""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from olivepress.azure import publish as azure_publish
from olivepress.azure.workspace import connect, workspace
from olivepress.core.errors import PressError
from olivepress.core.outputs import sha256, sizes
from olivepress.fetch.sources import fetch_checkpoint

ROOT = Path(__file__).parents[2]
LIVE = bool(os.environ.get("OLIVEPRESS_LIVE_AZURE"))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a model that does not exist yet, in a workspace that does."""
    if not LIVE:
        request.getfixturevalue("front")
    model = f"olivepress-test-{uuid.uuid4().hex[:12]}"
    yield model
    if LIVE:
        client = connect(workspace())
        for version in list(client.models.list(model)):
            client.models.archive(model, version.version)


def publish(release, name: str, version: str = "next") -> str:
    return azure_publish.publish(
        release.manifest, release.folder, release.files, to="workspace", azure_name=name, azure_version=version
    )


def test_publish_look_and_get_it_back(name, release, tmp_path):
    assert publish(release, name) == "1"
    assert publish(release, name) == "1"
    client = connect(workspace())
    model = client.models.get(name, "1")
    assert model.type == "custom_model"
    assert model.properties["content_sha256"] == azure_publish.content_hash(release.folder, release.files)
    assert model.tags == azure_publish.tags(release.manifest, model.properties["content_sha256"])
    client.models.download(name, "1", download_path=str(tmp_path / "back"))
    back = tmp_path / "back" / name / name
    assert {path: sha256(back / path) for path in sizes(back)} == {
        path: sha256(release.folder / path) for path in release.files
    }


def test_versions_never_change(name, release):
    assert publish(release, name, "5") == "5"
    release.write("adapters/travel.onnx_adapter", b"other")
    release.seal()
    with pytest.raises(PressError, match="version 5 is published with other bytes"):
        publish(release, name, "5")
    assert publish(release, name) == "6"
    assert {model.version for model in connect(workspace()).models.list(name)} == {"5", "6"}


def test_fetch_what_was_published(name, release, tmp_path):
    shutil.copytree(ROOT / "data/tiny-phi3", release.folder, dirs_exist_ok=True)
    checkpoint = [path.name for path in (ROOT / "data/tiny-phi3").iterdir()]
    release.files = [*checkpoint, "manifest.json"]
    version = publish(release, name)
    assert (
        fetch_checkpoint(f"azureml:{name}:{version}", tmp_path / "base", trust_remote_code=False)
        == f"azureml:{name}:{version}"
    )
    assert sha256(tmp_path / "base/model.safetensors") == sha256(ROOT / "data/tiny-phi3/model.safetensors")


def test_whoami(name):
    done = subprocess.run(
        [sys.executable, "-m", "olivepress", "azure", "whoami"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    place = workspace()
    shown = dict(
        line.split(maxsplit=1) for line in done.stdout.replace("resource group", "resource_group").splitlines()
    )
    assert (shown["subscription"], shown["workspace"]) == (place.subscription, place.workspace)
