"""Is the DVC remote usable, and safe to use? One line, exit status 0 or 1.

olivepress remote check [--remote NAME] [--read-only]
"""

import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from olivepress.core.errors import PressError
from olivepress.core.stage import Number

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_objects.fs.base import FileSystem

# Remote options of DVC that hold a secret, whatever the kind of storage.
SECRETS = {
    "access_key_id",
    "account_key",
    "bearer_token_command",
    "client_secret",
    "connection_string",
    "passphrase",
    "password",
    "sas_token",
    "secret_access_key",
    "session_token",
    "token",
}
CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "azure": "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or a login",
    "ssh": "offer a key (ssh-agent, ~/.ssh, or the remote's keyfile) that the server's authorized_keys lists",
}
# Codes and classes of the storage libraries, by what they mean to the user.
NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "AzureAuthError", "CredentialUnavailableError"}
REFUSED = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"),
    *("AuthenticationFailed", "InvalidAuthenticationInfo", "ClientAuthenticationError", "PermissionDenied"),
}
FORBIDDEN = {"AccessDenied", "AuthorizationFailure", "AuthorizationPermissionMismatch", "PermissionError"}
NO_CONTAINER = {"NoSuchBucket", "ContainerNotFound"}
UNREACHABLE = {
    *("EndpointConnectionError", "ConnectTimeoutError", "ServiceRequestError", "ClientConnectorError"),
    *("ConnectionRefusedError", "ConnectionResetError", "ConnectionLost", "gaierror", "TimeoutError"),
}


class NoAnswer(PressError):
    """The storage has not answered in time, and a thread of its library still waits for it."""


def check_remote(root: Path, name: str | None = None, *, read_only: bool = False, timeout: float = 30) -> str:
    """One line that says what works with the remote ``name`` (or the default one) of the project at ``root``.

    Lists it and, unless ``read_only``, writes a small object, reads it back and deletes it. ``timeout`` in seconds.
    Raises PressError for a project without a remote, a secret in git, a remote whose objects DVC would take
    unverified, and a storage that is unreachable, missing, or closed to these credentials.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
    except NotDvcRepoError as error:
        raise PressError(f"{root}: no DVC project (no .dvc folder). Run this in the project's root.") from error
    with repo:
        name = chosen(repo, name)
        url = repo.config["remote"][name]["url"]
        who = f"remote '{name}' ({without_password(url)})"
        check_settings(repo, name)
        outcome: list[str | PressError] = []

        def probe() -> None:
            try:
                outcome.append(_probe(repo, name, who, read_only=read_only))
            except PressError as error:
                outcome.append(error)

        # storage libraries wait for minutes, each with a setting of its own: one deadline for all of them
        thread = threading.Thread(target=probe, daemon=True)
        thread.start()
        thread.join(timeout)
    if not outcome:
        raise NoAnswer(f"{who}: unreachable: no answer within {timeout:g} seconds. Check address and network.")
    if isinstance(outcome[0], PressError):
        raise outcome[0]
    return outcome[0]


def chosen(repo: "Repo", name: str | None = None) -> str:
    """The remote called ``name``, or the default one; PressError if there is none."""
    known = sorted(repo.config["remote"])
    name = name or repo.config["core"].get("remote")
    if not name:
        remotes = f"there are: {', '.join(known)}" if known else "there is none"
        raise PressError(f".dvc/config: no default remote ({remotes}). Set one: make remote URL=s3://bucket/folder")
    if name not in known:
        raise PressError(f".dvc/config: no remote '{name}' (there: {', '.join(known) or 'none'}).")
    return name


def check_settings(repo: "Repo", name: str) -> None:
    """PressError for a secret in .dvc/config, which is in git, or a remote whose objects would not be verified."""
    committed = repo.config.load_one("repo").get("remote", {})
    for remote, settings in committed.items():
        secret_keys = sorted(SECRETS & settings.keys())
        if urlsplit(str(settings.get("url", ""))).password:
            secret_keys.append("url")
        if secret_keys:
            raise PressError(
                f".dvc/config: remote '{remote}' holds {secret_keys[0]}, and this file is in git. Change the secret, "
                f"then move it out: dvc remote modify --local {remote} {secret_keys[0]} …, or the environment."
            )
    if not repo.config["remote"][name].get("verify"):
        raise PressError(
            f".dvc/config: remote '{name}': verify is not set, so DVC would take a damaged or tampered object for a "
            f"good one. Set it: dvc remote modify {name} verify true"
        )


def _probe(repo: "Repo", name: str, who: str, *, read_only: bool) -> str:
    try:
        database = repo.cloud.get_remote_odb(name)
        top = database.fs.parent(database.fs.parent(database.path))  # DVC's own layout below it: files/md5
        filesystem = database.fs
        filesystem.fs  # noqa: B018  connects and logs in
    except Exception as error:
        raise PressError(f"{who}: {explain(error, repo.config['remote'][name]['url'])}") from error
    url = repo.config["remote"][name]["url"]
    try:
        list(filesystem.ls(top))
    except FileNotFoundError as error:
        if names(error) & NO_CONTAINER or not is_bucket(url):
            raise PressError(f"{who}: {explain(error, url)}") from error
        # a bucket has no folders: nothing pushed yet
    except Exception as error:
        raise PressError(f"{who}: {explain(error, url)}") from error
    if read_only:
        return f"{who}: can be listed; pulled objects are verified"
    try:
        _write_read_delete(filesystem, top)
    except Exception as error:
        raise PressError(f"{who}: can be listed, but writing failed: {explain(error, url)}") from error
    return f"{who}: can be listed, written and read; pulled objects are verified"


def _write_read_delete(filesystem: "FileSystem", top: str) -> None:
    """Put an object as `dvc push` does, compare it, and take it away again."""
    content = secrets.token_bytes(64)
    test_object = filesystem.join(top, f".olive-press-check-{secrets.token_hex(8)}")
    with tempfile.TemporaryDirectory() as folder:
        here, back = Path(folder) / "sent", Path(folder) / "back"
        here.write_bytes(content)
        filesystem.put_file(str(here), test_object)
        try:
            filesystem.get_file(test_object, str(back))
        finally:
            filesystem.remove(test_object)
        if back.read_bytes() != content:
            raise OSError("the object that came back is not the one that was written")


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":…@", 1) if password else url


def is_bucket(url: str) -> bool:
    """Object storage: no folders, a container that must exist."""
    return urlsplit(url).scheme in {"s3", "azure", "gs"}


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def names(error: BaseException) -> set[str]:
    """Class names and service error codes along the chain of causes."""
    seen: set[str] = set()
    for one in chain(error):
        seen |= {parent.__name__ for parent in type(one).__mro__}
        response: Any = getattr(one, "response", None)
        if isinstance(response, dict):  # botocore's
            seen.add(response.get("Error", {}).get("Code", ""))
        code = getattr(one, "error_code", None)  # azure-core's, an enum or a text
        seen.add(str(getattr(code, "value", code)))
    return seen


def explain(error: BaseException, url: str) -> str:
    """What went wrong and what to do about it, in one line."""
    error_names = names(error)
    # the first line: Azure adds request numbers and headers below it
    message = next((text[0] for one in chain(error) if (text := str(one).strip().splitlines())), type(error).__name__)[
        :200
    ]
    if "failed to authenticate" in message:
        error_names.add("AuthenticationFailed")  # Azurite has the text, but the code of a lack of rights
    scheme = urlsplit(url).scheme
    offer = f"{CREDENTIALS.get(scheme, 'give credentials')}, or put them into .dvc/config.local"
    container = urlsplit(url).netloc
    meanings: list[tuple[set[str], Callable[[], str]]] = [
        (NO_CREDENTIALS, lambda: f"no credentials ({message}): {offer}"),
        (NO_CONTAINER, lambda: f"there is no bucket or container '{container}'. Create it, or correct the url"),
        (REFUSED, lambda: f"the credentials are refused ({message}): {offer}"),
        (FORBIDDEN, lambda: f"no permission ({message}). Ask its owner for the right to read, list and write"),
        (UNREACHABLE, lambda: f"unreachable ({message}). Check the address, the network and that the server runs"),
        ({"FileNotFoundError"}, lambda: f"no such folder ({message}). Create it, or correct the url"),
    ]
    for signs, meaning in meanings:
        if error_names & signs:
            return meaning()
    return f"failed: {message}"


@click.command()
@click.option("--remote", help="The remote to check; the default one without it.")
@click.option("--read-only", is_flag=True, help="Do not try to write: for those who only pull.")
@click.option("--timeout", type=Number(1), default=30, show_default=True, help="Seconds to wait for it.")
def main(remote: str | None, read_only: bool, timeout: float) -> None:
    """Say in one line whether the project's DVC remote can be used, and if not, why."""
    try:
        click.echo(check_remote(Path.cwd(), remote, read_only=read_only, timeout=timeout))
    except NoAnswer as error:
        error.show()
        os._exit(error.exit_code)  # an ordinary exit would wait for that thread, too
