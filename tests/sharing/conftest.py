"""One finished project and real storage servers on loopback, for all tests of sharing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import S3Server, SshServer
from team import (
    RELEASE,
    Remote,
    azure_remote,
    commit,
    folder_remote,
    identify,
    make_key,
    make_model_key,
    open_shop,
    s3_remote,
    signer,
    ssh_remote,
)

KINDS = ["folder", "s3", "ssh", "azure"]


@pytest.fixture(scope="session")
def project(finished, once):
    """The finished pipeline, committed, with its DVC cache and no remote. Copy it, do not change it."""

    def commit_it(folder: Path) -> None:
        space = finished.copy(folder / "project")
        identify(space)
        for tag in space.run("git", "tag").stdout.split():
            space.run("git", "tag", "-d", tag)
        commit(space, "A finished run")
        assert space.changed() == set()

    return type(finished)(once("project", commit_it) / "project")


@pytest.fixture
def author(project, tmp_path: Path):
    """A copy of the project, cache included, for one test to change."""
    return project.copy(tmp_path / "author")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3") / "server")
    yield server
    server.kill()


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    server = SshServer(tmp_path_factory.mktemp("ssh") / "server")
    yield server
    server.kill()


@pytest.fixture(params=KINDS)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    """A DVC remote of each kind, empty."""
    if request.param == "folder":
        return folder_remote(tmp_path)
    if request.param == "s3":
        return s3_remote(request.getfixturevalue("s3_server"), tmp_path.name)
    if request.param == "ssh":
        return ssh_remote(request.getfixturevalue("ssh_server"), tmp_path)
    return azure_remote(request.getfixturevalue("azurite"))


@pytest.fixture
def shop(project, tmp_path: Path):
    """A project ready to be released: committed, pushed to an origin of its own, with a DVC remote."""
    return open_shop(project, tmp_path)


@pytest.fixture(scope="session")
def released(project, once):
    """The project with a signed release 1.2.0. Copy it, do not change it."""

    def release(folder: Path) -> None:
        space = open_shop(project, folder)
        make_key(folder / "key")
        space.write("allowed_signers", signer("press@example.org", folder / "key"))
        commit(space, "Who may sign")
        space.run("git", "push", "-q")
        make_model_key(folder / "model-key")
        said = space.run(*RELEASE, "1.2.0", "--sign-key", folder / "key", "--model-key", folder / "model-key").stdout
        (folder / "said").write_text(said)

    folder = once("released", release)
    space = type(project)(folder / "shop")
    space.said = (folder / "said").read_text()
    return space
