"""Azure Machine Learning: which workspace or registry is meant, the way in, and what its errors mean.

Credentials come from azure-identity's default chain (environment, workload or managed identity, `az login`, …); nothing
is stored by us. A workspace comes from the environment or from the config.json that its portal page hands out.
"""

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.errors import PressError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.exceptions import HttpResponseError
    from azure.identity import DefaultAzureCredential

# What names a workspace: our variables; those that Azure ML sets inside its own jobs; the keys of config.json.
VARIABLES = ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME")
JOB_VARIABLES = ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME")
CONFIG_KEYS = ("subscription_id", "resource_group", "workspace_name")
CONFIG_FILES = (Path(".azureml/config.json"), Path("config.json"))

WORKSPACE_ID = (
    r"subscriptions/(?P<subscription>[^/]+)/resource[gG]roups/(?P<group>[^/]+)"
    r"(?:/providers/Microsoft\.MachineLearningServices)?/workspaces/(?P<workspace>[^/]+)"
)
REGISTRY_ID = r"registries/(?P<registry>[^/]+)"

# How often a call that Azure throttles (429) or fails (5xx) is tried again: the SDK waits as long as Retry-After says,
# or 0, 1.6, 3.2, 6.4 and 12.8 s.
RETRIES = 5


@dataclass(frozen=True)
class ModelStore:
    """Where Azure ML keeps models: a workspace (subscription, group, workspace) or a registry (registry alone)."""

    subscription: str = ""
    group: str = ""
    workspace: str = ""
    registry: str = ""

    @property
    def kind(self) -> str:
        return "registry" if self.registry else "workspace"

    def __str__(self) -> str:
        if self.registry:
            return f"registry {self.registry}"
        return f"workspace {self.workspace}, resource group {self.group}, subscription {self.subscription}"


def workspace() -> ModelStore:
    """The workspace that the environment or config.json names; PressError if none is, or one in part."""
    for names in (VARIABLES, JOB_VARIABLES):
        values = [os.environ.get(name, "") for name in names]
        if all(values):
            return ModelStore(*values)
        if any(values[1:]):  # AZURE_SUBSCRIPTION_ID alone may be set for other tools
            missing = ", ".join(name for name, value in zip(names, values, strict=True) if not value)
            raise PressError(f"Azure workspace: {missing} not set. Expected all of {', '.join(names)}.")
    for path in CONFIG_FILES:
        if path.is_file():
            try:
                config = json.loads(path.read_text(encoding="utf-8"))
                return ModelStore(*(str(config[key]) for key in CONFIG_KEYS))
            except (ValueError, KeyError, TypeError) as error:
                raise PressError(f"{path}: expected JSON with {', '.join(CONFIG_KEYS)} ({error!r}).") from error
    raise PressError(
        f"Azure workspace: not named. Set {', '.join(VARIABLES)}, or save the workspace's config.json "
        f"(its page in the Azure portal, Overview) as {CONFIG_FILES[0]}."
    )


def destination(text: str) -> ModelStore:
    """``workspace`` (the environment's), ``azureml://registries/NAME`` or ``azureml://subscriptions/…/workspaces/W``."""
    if text == "workspace":
        return workspace()
    match = re.fullmatch(f"azureml://(?:{REGISTRY_ID}|{WORKSPACE_ID})", text)
    if not match:
        raise PressError(
            f"azure.publish.destination: {text!r}: expected workspace, azureml://registries/NAME or "
            "azureml://subscriptions/S/resourceGroups/G/workspaces/W."
        )
    return ModelStore(**{key: value for key, value in match.groupdict().items() if value})


def quiet() -> None:
    """Keep the SDK from announcing which of its classes are experimental, and from saying twice that a login failed."""
    for name in ("azure.ai.ml._utils._experimental", "azure.identity"):
        logging.getLogger(name).setLevel(logging.ERROR)


def credential() -> "DefaultAzureCredential":
    """azure-identity's default chain; PressError for settings in the environment that it cannot even read."""
    from azure.identity import DefaultAzureCredential

    try:
        return DefaultAzureCredential()
    except ValueError as error:
        raise PressError(f"Azure login: a variable AZURE_… in the environment is malformed: {error}.") from error


def connect(store: ModelStore) -> "MLClient":
    """A client for ``store``, signed in by azure-identity's default chain. A registry is looked up at once."""
    from azure.ai.ml import MLClient

    quiet()
    where = (
        {"registry_name": store.registry}
        if store.registry
        else {
            "subscription_id": store.subscription,
            "resource_group_name": store.group,
            "workspace_name": store.workspace,
        }
    )
    return MLClient(credential(), **where, enable_telemetry=False, retry_status=RETRIES)


@contextmanager
def explained(doing: str, store: ModelStore) -> Iterator[None]:
    """Turn what Azure's SDK raises in the block into a PressError that starts with ``doing``."""
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import AzureError

    try:
        yield
    except (MlException, AzureError) as error:
        raise PressError(f"{doing}: {_meaning(error, store)}") from error


def _meaning(error: Exception, store: ModelStore) -> str:
    from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError

    # the SDK wraps some of the service's answers in exceptions of its own
    answer = _answer(error)
    message = _service_message(answer or error)
    if answer is None and isinstance(error, ClientAuthenticationError):
        meaning = (
            "no Azure login that works. Run `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and "
            f"AZURE_CLIENT_SECRET for a service principal. azure-identity says: {message}"
        )
    elif answer is None and isinstance(error, ServiceRequestError | ServiceResponseError):
        meaning = f"Azure cannot be reached ({message}). Check the network and rerun."
    elif answer is None:
        meaning = message
    elif answer.status_code == 401:
        meaning = f"Azure did not accept the login ({message}). Sign in again: `az login`; check the tenant."
    elif answer.status_code == 403:
        meaning = (
            f"forbidden ({message}). The login needs the role 'AzureML Data Scientist' on the {store.kind}, and "
            "'Storage Blob Data Contributor' where its storage takes no keys. `make azure-whoami` shows who it is."
        )
    elif answer.status_code == 404:
        meaning = f"not found in {store} ({message}). Check the names; `make azure-whoami` shows what they resolve to."
    elif answer.status_code == 429 or answer.status_code >= 500:
        meaning = f"Azure still answers {answer.status_code} after {RETRIES} retries ({message}). Rerun later."
    else:
        meaning = f"Azure refused it with status {answer.status_code}: {message}"
    return meaning


def _answer(error: BaseException | None) -> "HttpResponseError | None":
    """The HTTP answer behind an exception, if there is one in its chain of causes."""
    from azure.core.exceptions import HttpResponseError

    while error is not None:
        if isinstance(error, HttpResponseError) and error.status_code:
            return error
        error = error.__cause__ or getattr(error, "inner_exception", None) or error.__context__
    return None


def _service_message(error: Exception) -> str:
    """The service's own words, in one line of at most 300 characters."""
    detail = getattr(error, "error", None)  # the "error" object of the answer's body
    code, message = getattr(detail, "code", None), getattr(detail, "message", None)
    text = f"{code}: {message}" if code and message else str(getattr(error, "message", "") or error)
    return " ".join(text.split())[:300]
