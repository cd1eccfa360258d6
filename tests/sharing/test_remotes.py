"""Push, clone elsewhere, pull: the same bytes, and nothing left to run. Against real servers."""

import socket
import sys
from datetime import UTC, datetime, timedelta

import pytest
from team import Remote, azure_remote, change, clone, folder_remote, s3_remote, ssh_remote

from olivepress.core.outputs import sha256, sizes

OUTS = ("models", "data/prepared")


def hashes(space) -> dict[str, str]:
    return {f"{top}/{path}": sha256(space.folder / top / path) for top in OUTS for path in sizes(space.folder / top)}


def check(space, *options: str):
    return space.run(sys.executable, "-m", "olivepress", "remote", "check", *options, check=False)


def one_line(done) -> str:
    """The error of a failed check: one line, exit status 1."""
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_push_clone_pull_and_nothing_is_left_to_run(author, remote, tmp_path):
    remote.connect(author)
    done = check(author)
    assert done.returncode == 0, done.stderr
    assert "can be listed, written and read; pulled objects are verified" in done.stdout
    author.run("dvc", "push")
    assert "in sync" in author.run("dvc", "status", "--cloud").stdout

    reader = clone(author, tmp_path / "reader")
    assert not (reader.folder / "models").exists()
    remote.credentials(reader)
    reader.run("dvc", "pull")
    assert hashes(reader) == hashes(author)
    assert len(hashes(reader)) > 20
    assert reader.repro() == set()

    elsewhere = ("--", ".", ":(exclude)tests")  # the tests hold Azurite's made-up key
    history = author.run("git", "log", "-p", "--all", *elsewhere).stdout
    for secret in remote.secrets:
        assert secret not in history
        assert not reader.run("git", "grep", "-F", "-e", secret, *elsewhere, check=False).stdout


def test_no_remote_at_all(author):
    assert "no default remote (there is none). Set one: make remote URL=" in one_line(check(author))


def test_a_remote_that_is_not_there_by_that_name(author, tmp_path):
    folder_remote(tmp_path).connect(author)
    assert "no remote 'storge' (there: storage)" in one_line(check(author, "--remote", "storge"))


def test_a_remote_whose_objects_would_not_be_verified_is_refused(author, tmp_path):
    folder_remote(tmp_path).connect(author)
    change(author, "verify", "false")
    assert "dvc remote modify storage verify true" in one_line(check(author))


@pytest.mark.parametrize(
    ("key", "value"),
    [("secret_access_key", "7d1f"), ("url", "ssh://user:7d1f@127.0.0.1/storage")],
)
def test_a_secret_in_git_is_refused_and_not_repeated(author, key, value):
    Remote("s3://press/team", settings={key: value}).connect(author)
    line = one_line(check(author))
    assert f"remote 'storage' holds {key}, and this file is in git" in line
    assert "7d1f" not in line


def test_a_folder_that_is_not_there(author, tmp_path):
    remote = folder_remote(tmp_path)
    remote.connect(author)
    (tmp_path / "storage").rmdir()
    assert "no such folder" in one_line(check(author))
    assert not (tmp_path / "storage").exists()


@pytest.mark.parametrize(
    ("user", "options", "expected"),
    [
        ("stranger", [], "no permission (Access Denied.)"),
        ("reader", [], "can be listed, but writing failed: no permission (Access Denied.)"),
        ("nobody", [], "the credentials are refused (The access key ID you provided does not exist"),
        (None, [], "no credentials (Unable to locate credentials): set AWS_ACCESS_KEY_ID"),
    ],
)
def test_s3_rights(author, s3_server, tmp_path, user, options, expected):
    s3_remote(s3_server, tmp_path.name).connect(author)
    s3_server.filesystem().pipe(f"press/{tmp_path.name}/earlier", b"pushed before")
    author.environment |= s3_server.environment(user or "")
    if user is None:
        author.environment["HOME"] = str(tmp_path)  # no ~/.aws there
        del author.environment["AWS_ACCESS_KEY_ID"], author.environment["AWS_SECRET_ACCESS_KEY"]
    assert expected in one_line(check(author, *options))


def test_s3_reader_may_pull(author, s3_server, tmp_path):
    s3_remote(s3_server, tmp_path.name).connect(author)
    author.environment |= s3_server.environment("reader")
    done = check(author, "--read-only")
    assert done.returncode == 0, done.stderr
    assert "can be listed; pulled objects are verified" in done.stdout


def test_s3_wrong_bucket_and_wrong_secret_and_wrong_address(author, s3_server):
    remote = s3_remote(s3_server, "team")
    remote.url = "s3://prss/team"
    remote.connect(author)
    author.environment |= s3_server.environment("admin")
    assert "there is no bucket or container 'prss'" in one_line(check(author))
    author.environment["AWS_SECRET_ACCESS_KEY"] = "guessed"
    assert "the credentials are refused (The request signature" in one_line(check(author))
    change(author, "endpointurl", "http://127.0.0.1:9")
    assert "unreachable (Could not connect" in one_line(check(author))


def test_ssh_wrong_key_wrong_folder_wrong_address(author, ssh_server, tmp_path):
    remote = ssh_remote(ssh_server, tmp_path)
    remote.url += "/none"
    remote.connect(author)
    assert "no such folder" in one_line(check(author))
    change(author, "keyfile", str(ssh_server.folder / "other_key"), local=True)
    assert "the credentials are refused (Permission denied" in one_line(check(author))
    change(author, "port", "9")
    assert "unreachable" in one_line(check(author))


def test_azure_rights_and_wrong_container_and_wrong_key_and_wrong_address(author, azurite):
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    remote = azure_remote(azurite)
    remote.connect(author)
    container = remote.url.split("/")[2]
    string = azurite.connection_string

    def with_string(value: str, *options: str) -> str:
        author.environment["AZURE_STORAGE_CONNECTION_STRING"] = value
        return one_line(check(author, *options))

    sas = generate_container_sas(
        azurite.account,
        container,
        account_key=azurite.key,
        permission=ContainerSasPermissions(read=True, list=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    shared = f"BlobEndpoint={azurite.url};SharedAccessSignature={sas}"
    assert "can be listed, but writing failed: no permission" in with_string(shared)
    assert "the credentials are refused" in with_string(string.replace(azurite.key, "Z3Vlc3NlZA=="))
    assert "unreachable" in with_string(
        string.replace(str(azurite.port), "9"), "--timeout", "3"
    )  # Azure's client retries for long
    author.environment |= {"AZURE_STORAGE_CONNECTION_STRING": "", "AZURE_CONFIG_DIR": str(author.folder)}
    assert "no credentials" in one_line(check(author))
    change(author, "url", "azure://prss/team")
    assert "there is no bucket or container 'prss'" in with_string(string)


def test_a_server_that_never_answers(author):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        Remote("ssh://127.0.0.1/storage", settings={"port": str(silent.getsockname()[1])}).connect(author)
        assert "unreachable: no answer within 3 seconds" in one_line(check(author, "--timeout", "3"))
