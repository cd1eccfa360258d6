"""A local Azure: login, Resource Manager, the registries' service and blob storage, as far as azure-ai-ml calls them.

Written from the public REST specification (Microsoft.MachineLearningServices in Azure/azure-rest-api-specs, and the
Resource Manager's guidelines for errors, paging and long-running operations). Blob storage is Azurite; the rest keeps
its state in memory. It refuses what the service refuses: a call without api-version, with an unknown one, with no token
or one for another audience; an unknown subscription, group or workspace; a malformed name or version; a change of a
version that exists.
"""

import base64
import functools
import http.client
import itertools
import json
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote

from azure.storage.blob import BlobServiceClient, generate_container_sas
from front import Request, Response
from online import OPERATION, Online, Refusal
from services import Azurite

LOGIN, ARM, REGISTRY = "login.microsoftonline.com", "management.azure.com", "eastus.api.azureml.ms"
METADATA = "169.254.169.254"  # where a machine in Azure asks for its own identity
TENANT, CLIENT, SECRET = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222", "let me in"
SUBSCRIPTION, GROUP, WORKSPACE = "33333333-3333-3333-3333-333333333333", "press-group", "press-space"
REGISTRY_NAME = "press-registry"
CONTAINER = "azureml-blobstore"
# the environment variables that name the service principal and the workspace
CREDENTIAL_NAMES = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
WORKSPACE_NAMES = ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME")

# the versions that the specification has a folder for, as far as this SDK names them
ARM_VERSIONS = {
    "2022-02-01-preview",
    "2022-05-01",
    "2022-10-01",
    "2022-10-01-preview",
    "2023-04-01",
    "2023-04-01-preview",
    "2023-06-01-preview",
    "2023-08-01-preview",
    "2023-10-01",
    "2024-01-01-preview",
    "2024-04-01-preview",
    "2024-10-01-preview",
    "2025-01-01-preview",
    "2025-12-01",
}
REGISTRY_VERSIONS = {"2021-10-01-dataplanepreview", "v1.0"}
AUDIENCES = {f"https://{ARM}", "https://management.core.windows.net", "https://ml.azure.com"}
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-_]{0,254}")
PAGE = 2  # results a page, so that a list of three needs two

PROVIDER = (
    r"/subscriptions/(?P<subscription>[^/]+)/resource[gG]roups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.MachineLearningServices"
)
IN_WORKSPACE = re.compile(PROVIDER + r"/workspaces/(?P<place>[^/]+)(?P<rest>/.*)?")
IN_REGISTRY = re.compile(r"/mferp/managementfrontend" + PROVIDER + r"/registries/(?P<place>[^/]+)(?P<rest>/.*)?")
DISCOVERY = re.compile(r"/registrymanagement/v1\.0/registries/(?P<place>[^/]+)/discovery")
VERSION = re.compile(r"/(?P<kind>models|codes|environments|components)/(?P<name>[^/]+)/versions/(?P<version>[^/]+)")
VERSIONS = re.compile(r"/(?P<kind>models|codes|environments)/(?P<name>[^/]+)/versions/?")
UPLOAD = re.compile(r"/codes/(?P<name>[^/]+)/versions/[^/]+/startPendingUpload")
MODEL = re.compile(r"/models/(?P<name>[^/]+)")


class Refused(Exception):
    """An error as the answer: (status, code, message)."""


def service(answer: Callable[["Cloud", Request], Response]) -> Callable[["Cloud", Request], Response]:
    """Turn ``Refused`` into the error body of the specification."""

    @functools.wraps(answer)
    def run(cloud: "Cloud", request: Request) -> Response:
        try:
            return answer(cloud, request)
        except (Refused, Refusal) as refusal:
            return Response.error(*refusal.args)

    return run


class Cloud:
    """One tenant, subscription, group, workspace and registry over one Azurite."""

    def __init__(self, azurite: Azurite) -> None:
        self.azurite = azurite
        self.blob_host = f"{azurite.account}.blob.core.windows.net"
        self.services = {
            LOGIN: self.login,
            ARM: self.arm,
            REGISTRY: self.registry,
            METADATA: self.metadata,
            self.blob_host: self.blob,
        }
        self.clock = itertools.count()
        self.storage = BlobServiceClient.from_connection_string(azurite.connection_string, use_env_settings=False)
        self.storage.create_container(CONTAINER)
        self.reset()

    def reset(self) -> None:
        """Forget all models, jobs and endpoints, and empty the workspace's storage."""
        self.assets: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}  # (place, kind/name) -> version -> resource
        self.jobs: dict[str, dict[str, Any]] = {}
        operations = f"https://{ARM}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices"
        self.online = Online(
            lambda rest: resource_id(f"workspaces/{WORKSPACE}/{rest}"),
            self._asset_there,
            f"{operations}/locations/eastus/mfeOperationsStatus",
        )
        self.operations: dict[str, int] = {}  # long-running: polls that are still answered "InProgress"
        container = self.storage.get_container_client(CONTAINER)
        for name in container.list_blob_names():
            container.delete_blob(name)

    # ---- login: OAuth 2.0 client credentials, as Microsoft's identity platform answers -------------------------

    def login(self, request: Request) -> Response:
        if request.path.endswith("/common/discovery/instance"):
            tenant_path = f"https://{LOGIN}/{TENANT}/v2.0/.well-known/openid-configuration"
            aliases = {"preferred_network": LOGIN, "preferred_cache": "login.windows.net", "aliases": [LOGIN]}
            return Response.of({"tenant_discovery_endpoint": tenant_path, "api-version": "1.1", "metadata": [aliases]})
        tenant = request.path.split("/")[1]
        base = f"https://{LOGIN}/{tenant}"
        if request.path.endswith("/.well-known/openid-configuration"):
            return Response.of(
                {
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "issuer": f"{base}/v2.0",
                }
            )
        form = {key: values[0] for key, values in parse_qs(request.body.decode()).items()}
        if tenant != TENANT:
            return self._login_error("invalid_request", f"AADSTS90002: Tenant '{tenant}' not found.")
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT, SECRET):
            return self._login_error("invalid_client", "AADSTS7000215: Invalid client secret provided.", 401)
        audience = form["scope"].split()[0].removesuffix("/.default").rstrip("/")
        return Response.of(
            {"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token(audience)}
        )

    @staticmethod
    def metadata(_: Request) -> Response:
        """A machine without an identity."""
        return Response.of({"error": "invalid_request", "error_description": "Identity not found"}, 400)

    @staticmethod
    def _login_error(error: str, description: str, status: int = 400) -> Response:
        return Response.of({"error": error, "error_description": description, "error_codes": []}, status)

    # ---- Azure Resource Manager ----------------------------------------------------------------------------------

    @service
    def arm(self, request: Request) -> Response:
        self._check(request, ARM_VERSIONS)
        if operation := OPERATION.fullmatch(request.path):
            return self.online.operation(operation["id"])
        match = IN_WORKSPACE.fullmatch(request.path)
        if not match:
            raise Refused(404, "InvalidResourceType", f"No such resource: {request.path}")
        if match["subscription"] != SUBSCRIPTION:
            raise Refused(
                404, "SubscriptionNotFound", f"The subscription '{match['subscription']}' could not be found."
            )
        if match["group"] != GROUP:
            raise Refused(404, "ResourceGroupNotFound", f"Resource group '{match['group']}' could not be found.")
        if match["place"] != WORKSPACE:
            raise Refused(
                404,
                "ResourceNotFound",
                f"The Resource 'Microsoft.MachineLearningServices/workspaces/{match['place']}' under resource group "
                f"'{GROUP}' was not found.",
            )
        rest = match["rest"] or ""
        if rest.startswith("/datastores"):
            return self._datastores(request, rest)
        if found := re.fullmatch(r"/jobs/(?P<name>[^/]+)", rest):
            return self._job(request, found["name"])
        if not rest and request.method == "GET":
            return Response.of(self._workspace())
        if rest.startswith("/onlineEndpoints"):
            return self.online.answer(request, rest)
        return self._asset(request, WORKSPACE, rest)

    def _workspace(self) -> dict[str, Any]:
        return {
            "id": resource_id(f"workspaces/{WORKSPACE}"),
            "name": WORKSPACE,
            "type": "Microsoft.MachineLearningServices/workspaces",
            "location": "eastus",
            "kind": "Default",
            "properties": {
                "workspaceId": "44444444-4444-4444-4444-444444444444",
                "friendlyName": WORKSPACE,
                "provisioningState": "Succeeded",
                "discoveryUrl": f"https://{REGISTRY}/discovery",
                "mlFlowTrackingUri": f"azureml://{REGISTRY}/mlflow/v1.0",
            },
        }

    def _datastores(self, request: Request, rest: str) -> Response:
        store = {
            "id": resource_id(f"workspaces/{WORKSPACE}/datastores/workspaceblobstore"),
            "name": "workspaceblobstore",
            "type": "Microsoft.MachineLearningServices/workspaces/datastores",
            "properties": {
                "datastoreType": "AzureBlob",
                "accountName": self.azurite.account,
                "containerName": CONTAINER,
                "endpoint": "core.windows.net",
                "protocol": "https",
                "isDefault": True,
                "credentials": {"credentialsType": "AccountKey"},
            },
        }
        if rest == "/datastores":
            return Response.of({"value": [store]})
        if rest == "/datastores/workspaceblobstore":
            return Response.of(store)
        if rest == "/datastores/workspaceblobstore/listSecrets" and request.method == "POST":
            if request.body and request.json().get("expirableSecret"):
                return Response.of({"secretsType": "Sas", "sasToken": self._sas(CONTAINER)})
            return Response.of({"secretsType": "AccountKey", "key": self.azurite.key})
        raise Refused(404, "UserError", f"Datastore {rest} not found.")

    def _sas(self, container: str) -> str:
        return generate_container_sas(
            self.azurite.account,
            container,
            account_key=self.azurite.key,
            permission="racwdl",
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )

    def _job(self, request: Request, name: str) -> Response:
        if request.method == "PUT":
            properties = request.json()["properties"]
            if name in self.jobs:
                raise Refused(409, "UserError", f"Job {name} exists.")
            services = {"Studio": {"jobServiceType": "Studio", "endpoint": f"https://ml.azure.com/runs/{name}"}}
            self.jobs[name] = {
                "id": resource_id(f"workspaces/{WORKSPACE}/jobs/{name}"),
                "name": name,
                "type": "Microsoft.MachineLearningServices/workspaces/jobs",
                "properties": {**properties, "status": "Starting", "services": services},
            }
            return Response.of(self.jobs[name], 201)
        if name not in self.jobs:
            raise Refused(404, "UserError", f"Job {name} not found.")
        return Response.of(self.jobs[name])

    # ---- models, codes and environments, in a workspace or a registry ----------------------------------------------

    def _asset(self, request: Request, place: str, rest: str) -> Response:
        if (match := UPLOAD.fullmatch(rest)) and request.method == "POST":
            return self._upload(f"code-{match['name']}")
        if match := VERSION.fullmatch(rest):
            return self._version(request, place, **match.groupdict())
        if (match := VERSIONS.fullmatch(rest)) and request.method == "GET":
            return self._list(request, self.assets.get((place, f"{match['kind']}/{match['name']}"), {}))
        if (match := MODEL.fullmatch(rest)) and request.method == "GET":
            versions = self.assets.get((place, f"models/{match['name']}"))
            if not versions:
                raise Refused(404, "UserError", f"The specified resource {match['name']} was not found.")
            numbers = [int(version) for version in versions if version.isdigit()]
            properties = {"latestVersion": list(versions)[-1], "nextVersion": str(max(numbers, default=0) + 1)}
            return Response.of({"id": request.path, "name": match["name"], "properties": properties})
        raise Refused(404, "InvalidResourceType", f"No such resource: {request.method} {request.path}")

    def _asset_there(self, asset: str) -> bool:
        """Whether a version with that id is there."""
        every = (resource for versions in self.assets.values() for resource in versions.values())
        return any(resource["id"].lower() == asset.lower() for resource in every)

    def _version(self, request: Request, place: str, kind: str, name: str, version: str) -> Response:
        versions = self.assets.get((place, f"{kind}/{name}"), {})
        if request.method == "GET":
            if version not in versions:
                raise Refused(404, "UserError", f"Not found: {kind[:-1]} {name}, version {version}.")
            return Response.of(versions[version])
        if request.method != "PUT":
            raise Refused(405, "MethodNotAllowed", request.method)
        if kind == "models" and not NAME.fullmatch(name):
            raise Refused(400, "UserError", f"The name {name!r} is invalid. It must match {NAME.pattern}.")
        if kind == "models" and place == WORKSPACE and not (version.isdigit() and int(version) > 0):
            raise Refused(400, "UserError", f"Invalid version {version!r}: it must be a positive integer.")
        if len(version) > 30 and kind == "models":
            raise Refused(400, "UserError", "Argument 'version' exceeded maximum length of 30.")
        asked = request.json()["properties"]
        uri = "modelUri" if kind == "models" else "codeUri"
        if version in versions:
            kept = versions[version]["properties"]
            if asked.get(uri) != kept.get(uri):
                raise Refused(400, "UserError", "Asset paths cannot be updated.")
            changed = {key for key, text in kept["properties"].items() if asked.get("properties", {}).get(key) != text}
            if changed:
                raise Refused(400, "UserError", f"Properties cannot be changed: {sorted(changed)}.")
        given = {key: value for key, value in asked.items() if value is not None}
        always = {"tags": {}, "properties": {}, **({"flavors": {}} if kind == "models" else {})}
        root = resource_id(f"workspaces/{place}") if place == WORKSPACE else f"azureml://registries/{place}"
        new = version not in versions
        versions[version] = {
            "id": f"{root}/{kind}/{name}/versions/{version}",
            "name": version,
            "type": f"Microsoft.MachineLearningServices/workspaces/{kind}/versions",
            "properties": {**always, **given},
            "systemData": {
                "createdAt": f"2026-01-01T00:00:{next(self.clock) % 60:02}Z",
                "createdByType": "Application",
            },
        }
        self.assets[place, f"{kind}/{name}"] = versions
        return Response.of(versions[version], 201 if new else 200)

    def _list(self, request: Request, versions: dict[str, dict[str, Any]]) -> Response:
        """Newest first, a page at a time; the link to the next page carries its place, as a skip token."""
        every = list(reversed(versions.values()))
        start = int(request.query.get("$skip", 0))
        size = int(request.query.get("$top", PAGE))
        answer: dict[str, Any] = {"value": every[start : start + size]}
        if start + size < len(every) and "$top" not in request.query:
            version = request.query["api-version"]
            answer["nextLink"] = f"https://{request.host}{request.path}?api-version={version}&$skip={start + size}"
        return Response.of(answer)

    # ---- registries: discovery, then the management front end of their region ---------------------------------------

    @service
    def registry(self, request: Request) -> Response:
        self._check(request, REGISTRY_VERSIONS)
        if operation := re.fullmatch(r"/operations/(?P<id>[^/]+)", request.path):
            self.operations[operation["id"]] -= 1
            done = self.operations[operation["id"]] < 0
            return Response.of(
                {"status": "Succeeded" if done else "InProgress"}, **({} if done else {"Retry_After": "1"})
            )
        match = DISCOVERY.fullmatch(request.path) or IN_REGISTRY.fullmatch(request.path)
        if not match or match["place"] != REGISTRY_NAME:
            raise Refused(404, "UserError", f"Registry not found: {request.path}")
        if match.re is DISCOVERY:
            return Response.of(
                {
                    "registryName": REGISTRY_NAME,
                    "primaryRegionResourceProviderUri": f"https://{REGISTRY}/",
                    "subscriptionId": SUBSCRIPTION,
                    "resourceGroup": GROUP,
                    "registryFqdns": {"eastus": {"uri": f"https://{REGISTRY}/"}},
                }
            )
        rest = match["rest"] or ""
        if reference := re.fullmatch(
            r"/(?P<kind>tempdatarefs|datarefs)/(?P<name>[^/]+)/versions/(?P<version>.+)", rest
        ):
            return self._reference(request, **reference.groupdict())
        response = self._asset(request, REGISTRY_NAME, rest)
        if request.method == "PUT" and response.status == 201:  # creating is a long-running operation
            operation_id = uuid.uuid4().hex
            self.operations[operation_id] = 1
            response.headers["Azure-AsyncOperation"] = (
                f"https://{REGISTRY}/operations/{operation_id}?api-version={request.query['api-version']}"
            )
            response.headers["Retry-After"] = "1"  # the SDK waits 30 s where it is not told
            pending = json.loads(response.body)
            pending["properties"]["provisioningState"] = "Creating"
            response.body = json.dumps(pending).encode()
        return response

    def _reference(self, request: Request, kind: str, name: str, version: str) -> Response:
        """Where to put a new version's files (tempdatarefs), or how to read those of one that exists (datarefs)."""
        exists = version in self.assets.get((REGISTRY_NAME, f"models/{name}"), {})
        if kind == "tempdatarefs":
            if exists:
                raise Refused(409, "UserError", "Asset already exists.")
            return self._upload(f"registry-{uuid.uuid4()}")
        uri = request.json()["blobUri"]
        return Response.of(self._blob_reference(uri, uri.split("/")[3]))

    def _upload(self, container: str) -> Response:
        """A container of its own to put files into."""
        self.storage.create_container(container)
        return Response.of(self._blob_reference(f"https://{self.blob_host}/{container}", container))

    def _blob_reference(self, uri: str, container: str) -> dict[str, Any]:
        sas = f"https://{self.blob_host}/{container}?{self._sas(container)}"
        reference = {"blobUri": uri, "credential": {"credentialType": "SAS", "sasUri": sas}}
        return {"blobReferenceForConsumption": reference, "pendingUploadId": container}

    def _check(self, request: Request, versions: set[str]) -> None:
        version = request.query.get("api-version")
        if not version:
            raise Refused(400, "MissingApiVersionParameter", "The api-version query parameter is required.")
        if version not in versions:
            raise Refused(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")
        try:
            scheme, _, sent = request.headers.get("authorization", "").partition(" ")
            claims = json.loads(_unpad(sent.split(".")[1]))
        except (IndexError, ValueError):
            raise Refused(401, "AuthenticationFailed", "The 'Authorization' header is missing or malformed.") from None
        if scheme != "Bearer" or claims["exp"] < time.time() or claims["aud"] not in AUDIENCES:
            raise Refused(401, "InvalidAuthenticationToken", "The access token is invalid or expired.")

    # ---- blob storage: Azurite, under Azure's host name -------------------------------------------------------

    def blob(self, request: Request) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.azurite.port, timeout=60)
        headers = {key: value for key, value in request.headers.items() if key not in ("connection", "accept-encoding")}
        try:
            connection.request(request.method, request.target, request.body, {**headers, "host": self.blob_host})
            answer = connection.getresponse()
            hop = {"connection", "keep-alive", "transfer-encoding"}
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in hop}
            kept = {
                ("Content-Length" if name.lower() == "content-length" else name): text for name, text in kept.items()
            }
            return Response(answer.status, answer.read(), kept)
        finally:
            connection.close()

    def put_model(self, place: str, name: str, version: str, files: dict[str, bytes], root: str = "model") -> None:
        """A model that is there already: ``files`` below ``root`` in the storage, and its version."""
        if place == WORKSPACE:
            container, home = CONTAINER, f"LocalUpload/{uuid.uuid4().hex}/{root}"
            uri = f"azureml://subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/workspaces/{WORKSPACE}/datastores"
            uri += f"/workspaceblobstore/paths/{home}"
            root_id = resource_id(f"workspaces/{place}")
        else:
            container, home = f"registry-{uuid.uuid4()}", root
            self.storage.create_container(container)
            uri = f"https://{self.blob_host}/{container}/{home}"
            root_id = f"azureml://registries/{place}"
        for path, content in files.items():
            self.storage.get_blob_client(container, f"{home}/{path}").upload_blob(content)
        properties = {"modelUri": uri, "modelType": "custom_model", "tags": {}, "properties": {}, "flavors": {}}
        resource = {"id": f"{root_id}/models/{name}/versions/{version}", "name": version, "properties": properties}
        self.assets.setdefault((place, f"models/{name}"), {})[version] = resource

    def blobs(self, container: str = CONTAINER) -> dict[str, bytes]:
        """Name -> bytes of everything in a container."""
        client = self.storage.get_container_client(container)
        return {name: client.download_blob(name).readall() for name in client.list_blob_names()}

    def container_of(self, place: str, name: str, version: str) -> str:
        """The container that holds the files of a model's version."""
        uri = unquote(self.assets[place, f"models/{name}"][version]["properties"]["modelUri"])
        return CONTAINER if uri.startswith("azureml://") else uri.split("/")[3]


def resource_id(rest: str) -> str:
    prefix = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.MachineLearningServices"
    return f"{prefix}/{rest}"


def token(audience: str, lifetime: int = 3599) -> str:
    """An access token as the login hands it out: a JWT; who checks it here reads its claims."""
    claims = {"aud": audience, "tid": TENANT, "appid": CLIENT, "oid": CLIENT, "exp": int(time.time()) + lifetime}
    parts = [{"alg": "RS256", "typ": "JWT"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def _unpad(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
