"""The CPU flavour of the image, built once, and the pipeline run once in it."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import Checkout, build, docker


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture(scope="session")
def image() -> str:
    if docker("info", check=False).returncode:
        pytest.fail("Docker does not answer. Start it (.ci/run does), or leave this test out: make test.")
    return build("cpu", "olivepress-test:cpu")


@pytest.fixture(scope="session")
def main_job(image: str) -> Iterator[str]:
    """The name of a container that ran `docker run IMAGE` to its end: no mount, no option, the image's own user."""
    name = f"olivepress-test-{uuid.uuid4().hex[:8]}"
    done = docker("run", "--name", name, image, check=False)
    try:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)
