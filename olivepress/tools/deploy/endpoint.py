"""A managed online endpoint and its deployments, through Azure's SDK: find, create, share out the traffic, delete."""

from typing import TYPE_CHECKING

from olivepress.azure.publish import HASH
from olivepress.azure.workspace import ModelStore, connect
from olivepress.core.errors import PressError
from olivepress.tools.deploy.specification import Model
from olivepress.tools.deploy.waiting import Failed, wait

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import ManagedOnlineDeployment, ManagedOnlineEndpoint, OnlineEndpoint

LOG_LINES = 20


def check_model(client: "MLClient", model: Model) -> None:
    """PressError unless ``model`` is there and is a release that `register` published; ``client``: the workspace's."""
    from azure.core.exceptions import ResourceNotFoundError

    there = connect(model.store) if model.store.registry else client
    try:
        found = there.models.get(model.name, model.version)
    except ResourceNotFoundError as error:
        if model.store.workspace:  # is it the model that is not there, or the workspace?
            client.workspaces.get(model.store.workspace)
        raise PressError(
            f"--model: {model} is not in {model.store}. Publish it (register.backend: azureml), or name a version "
            f"that `az ml model list --name {model.name}` shows."
        ) from error
    if HASH not in found.properties:
        raise PressError(
            f"--model: {model} is no release that olivepress published: it has no property {HASH}. olivepress serve "
            "takes nothing else."
        )


def find(client: "MLClient", name: str) -> "OnlineEndpoint | None":
    """The endpoint with its traffic, 0 for a deployment that has none; None if it is not there."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return client.online_endpoints.get(name)
    except ResourceNotFoundError:
        return None


def existing(client: "MLClient", store: ModelStore, name: str) -> "OnlineEndpoint":
    """The endpoint with its traffic; PressError if it is not there."""
    found = find(client, name)
    if found is None:
        client.workspaces.get(store.workspace)
        there = ", ".join(sorted(endpoint.name for endpoint in client.online_endpoints.list())) or "none"
        raise PressError(f"endpoint {name}: not in {store}. There: {there}.")
    return found


def check_traffic(traffic: dict[str, int], deployments: set[str], name: str) -> None:
    """PressError if ``traffic`` names a deployment that endpoint ``name`` does not have."""
    unknown = sorted(traffic.keys() - deployments)
    if unknown:
        there = ", ".join(sorted(deployments)) or "none"
        raise PressError(f"--traffic: endpoint {name} has no deployment {', '.join(unknown)}. There: {there}.")


def create_endpoint(client: "MLClient", wanted: "ManagedOnlineEndpoint") -> "OnlineEndpoint":
    """Make the endpoint, without a deployment."""
    wanted.traffic = {}
    return wait(client.online_endpoints.begin_create_or_update(wanted), f"endpoint {wanted.name}: being made")


def create_deployment(client: "MLClient", wanted: "ManagedOnlineDeployment") -> None:
    """Make or change the deployment. PressError with the container's last words if Azure cannot start it."""
    doing = f"deployment {wanted.name} of {wanted.endpoint_name}"
    try:
        wait(client.online_deployments.begin_create_or_update(wanted), f"{doing}: being started, for some minutes")
    except Failed as error:
        raise PressError(
            f"{error.message}\n"
            f"{_log(client, wanted)}"
            f"Mend it and deploy again, or remove it: olivepress azure undeploy --endpoint {wanted.endpoint_name} "
            f"--deployment {wanted.name}"
        ) from error


def _log(client: "MLClient", wanted: "ManagedOnlineDeployment") -> str:
    from azure.core.exceptions import AzureError

    try:
        text = client.online_deployments.get_logs(wanted.name, wanted.endpoint_name, LOG_LINES)
    except AzureError:  # the first failure is the one to tell
        return ""
    return "".join(f"  {line}\n" for line in text.splitlines()[-LOG_LINES:] if line.strip())


def share_out(client: "MLClient", endpoint: "OnlineEndpoint", traffic: dict[str, int]) -> "OnlineEndpoint":
    """Give each deployment its per cent of the requests; those that are not named get none."""
    endpoint.traffic = dict(traffic)
    said = ", ".join(f"{name} {share} %" for name, share in traffic.items())
    return wait(client.online_endpoints.begin_create_or_update(endpoint), f"traffic of {endpoint.name}: {said}")


def delete_deployment(client: "MLClient", endpoint: "OnlineEndpoint", name: str) -> None:
    """Delete a deployment that gets no traffic; PressError for another."""
    if name not in endpoint.traffic:
        check_traffic({name: 0}, set(endpoint.traffic), endpoint.name)
    if endpoint.traffic[name]:
        raise PressError(
            f"deployment {name} gets {endpoint.traffic[name]} % of the requests to {endpoint.name}. Give them away "
            f"first: olivepress azure traffic --endpoint {endpoint.name} --traffic OTHER=100; or delete the endpoint."
        )
    wait(client.online_deployments.begin_delete(name, endpoint.name), f"deployment {name}: being deleted")


def delete_endpoint(client: "MLClient", name: str) -> None:
    """Delete the endpoint with all of its deployments."""
    wait(client.online_endpoints.begin_delete(name), f"endpoint {name}: being deleted")
