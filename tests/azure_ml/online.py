"""The local Azure's managed online endpoints, from the public REST specification (onlineEndpoints.json,
onlineDeployments.json) and the Resource Manager's guidelines for long-running operations: an answer with a resource
that is still being made, an Azure-AsyncOperation to ask, and the resource itself when that has succeeded."""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from front import Request, Response

ENDPOINTS = re.compile(r"/onlineEndpoints/?")
ENDPOINT = re.compile(r"/onlineEndpoints/(?P<name>[^/]+)(?P<rest>/.*)?")
DEPLOYMENT = re.compile(r"/deployments/(?P<name>[^/]+)(?P<logs>/getLogs)?")
OPERATION = re.compile(
    r"/subscriptions/[^/]+/providers/Microsoft\.MachineLearningServices/locations/eastus/mfeOperationsStatus/(?P<id>[^/]+)"
)
NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{1,30}[a-zA-Z0-9]")
AUTH = {"Key", "AMLToken", "AADToken"}
KEYS = {"primaryKey": "primary-key-of-the-endpoint-0001", "secondaryKey": "secondary-key-of-the-endpoint-02"}


class Refusal(Exception):
    """(status, code, message)"""


@dataclass
class Operation:
    """Something that takes a while: ``polls`` answers say that it goes on, then ``finish`` is called."""

    finish: Callable[[], None]
    polls: int = 1
    error: dict[str, str] | None = None
    status: str = "InProgress"

    def poll(self) -> dict[str, Any]:
        if self.status == "InProgress" and self.polls == 0:
            self.status = "Failed" if self.error else "Succeeded"
            self.finish()
        self.polls -= self.polls > 0
        return {"status": self.status, **({"error": self.error} if self.status == "Failed" else {})}


@dataclass
class Online:
    """All endpoints of one workspace. ``home`` makes a resource's id; ``assets`` says whether an id is there."""

    home: Callable[[str], str]
    asset_there: Callable[[str], bool]
    url: str
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    deployments: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    failing: dict[str, dict[str, str]] = field(default_factory=dict)  # deployment -> the error it ends with
    logs: str = ""

    def operation(self, name: str) -> Response:
        if name not in self.operations:
            raise Refusal(404, "NotFound", f"Operation {name} not found.")
        return Response.of(self.operations[name].poll(), Retry_After="1")

    def answer(self, request: Request, rest: str) -> Response:
        if ENDPOINTS.fullmatch(rest) and request.method == "GET":
            return Response.of({"value": list(self.endpoints.values())})
        match = ENDPOINT.fullmatch(rest)
        if not match:
            raise Refusal(404, "InvalidResourceType", f"No such resource: {request.method} {rest}")
        name, below = match["name"], match["rest"] or ""
        if request.method == "PUT" and not below:
            return self._put_endpoint(request, name)
        if name not in self.endpoints:
            raise Refusal(404, "ResourceNotFound", f"Online endpoint {name} was not found.")
        return self._endpoint(request, name, below)

    def _endpoint(self, request: Request, name: str, below: str) -> Response:
        if not below and request.method == "GET":
            return Response.of(self.endpoints[name])
        if not below and request.method == "DELETE":
            return self._begin(request, lambda: self._forget(name), None, 202)
        if below == "/listKeys" and request.method == "POST":
            return Response.of(KEYS)
        if below == "/deployments" and request.method == "GET":
            return Response.of({"value": list(self.deployments[name].values())})
        if found := DEPLOYMENT.fullmatch(below):
            return self._deployment(request, name, found["name"], bool(found["logs"]))
        raise Refusal(404, "InvalidResourceType", f"No such resource: {request.method} {name}{below}")

    def _forget(self, name: str) -> None:
        del self.endpoints[name], self.deployments[name]

    def _begin(
        self, request: Request, finish: Callable[[], None], body: Any, status: int, error: dict[str, str] | None = None
    ) -> Response:
        name = uuid.uuid4().hex
        self.operations[name] = Operation(finish, error=error)
        place = f"{self.url}/{name}?api-version={request.query['api-version']}"
        headers = {"Azure_AsyncOperation": place, "Location": place, "Retry_After": "1"}
        return Response.of(body, status, **headers) if body else Response(status, b"", _dashed(headers))

    def _put_endpoint(self, request: Request, name: str) -> Response:
        asked = request.json()
        properties = {"traffic": {}, **{key: value for key, value in asked["properties"].items() if value is not None}}
        if not NAME.fullmatch(name):
            raise Refusal(400, "BadArgument", f"The endpoint's name {name!r} is invalid.")
        if properties["authMode"] not in AUTH:
            raise Refusal(400, "BadArgument", f"authMode {properties['authMode']!r} is invalid.")
        traffic = properties["traffic"]
        unknown = traffic.keys() - self.deployments.get(name, {}).keys()
        if unknown:
            raise Refusal(400, "BadArgument", f"Traffic for deployments that do not exist: {sorted(unknown)}.")
        if sum(traffic.values()) not in (0, 100):
            raise Refusal(400, "BadArgument", "The sum of traffic percentages has to be 0 or 100.")
        if not asked.get("location"):
            raise Refusal(400, "LocationRequired", "The location property is required.")
        new = name not in self.endpoints
        properties |= {
            "provisioningState": "Creating" if new else "Updating",
            "scoringUri": f"https://{name}.eastus.inference.ml.azure.com/",
        }
        self.endpoints[name] = {
            "id": self.home(f"onlineEndpoints/{name}"),
            "name": name,
            "type": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints",
            "location": asked["location"],
            "tags": asked.get("tags") or {},
            "properties": properties,
            "kind": "Managed",
        }
        self.deployments.setdefault(name, {})

        def finish() -> None:
            properties["provisioningState"] = "Succeeded"

        return self._begin(request, finish, self.endpoints[name], 201 if new else 200)

    def _deployment(self, request: Request, endpoint: str, name: str, logs: bool) -> Response:
        there = self.deployments[endpoint]
        if request.method == "PUT":
            return self._put_deployment(request, endpoint, name)
        if name not in there:
            raise Refusal(404, "ResourceNotFound", f"Deployment {name} of endpoint {endpoint} was not found.")
        if logs and request.method == "POST":
            return Response.of({"content": "\n".join(self.logs.splitlines()[-request.json()["tail"] :])})
        if request.method == "GET":
            return Response.of(there[name])
        if request.method != "DELETE":
            raise Refusal(405, "MethodNotAllowed", request.method)
        if self.endpoints[endpoint]["properties"]["traffic"].get(name):
            raise Refusal(400, "BadArgument", f"Deployment {name} has traffic and cannot be deleted.")

        def finish() -> None:
            del there[name]

        return self._begin(request, finish, None, 202)

    def _put_deployment(self, request: Request, endpoint: str, name: str) -> Response:
        asked = request.json()
        properties = asked["properties"]
        if not NAME.fullmatch(name):
            raise Refusal(400, "BadArgument", f"The deployment's name {name!r} is invalid.")
        for key in ("model", "environmentId"):
            if not self.asset_there(properties.get(key) or ""):
                raise Refusal(400, "BadArgument", f"{key}: {properties.get(key)!r} was not found.")
        if properties["endpointComputeType"] != "Managed" or not properties.get("instanceType"):
            raise Refusal(400, "BadArgument", "A managed deployment needs an instanceType.")
        if not 1 <= asked["sku"]["capacity"] <= 1000:
            raise Refusal(400, "BadArgument", "sku.capacity must be at least 1.")
        new = name not in self.deployments[endpoint]
        given = {"scaleSettings": {"scaleType": "Default"}}  # what Azure fills in
        given |= {key: value for key, value in properties.items() if value is not None}
        given["provisioningState"] = "Creating" if new else "Updating"
        self.deployments[endpoint][name] = {
            "id": self.home(f"onlineEndpoints/{endpoint}/deployments/{name}"),
            "name": name,
            "type": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments",
            "location": asked["location"],
            "tags": asked.get("tags") or {},
            "properties": given,
            "sku": asked["sku"],
        }
        error = self.failing.get(name)

        def finish() -> None:
            given["provisioningState"] = "Failed" if error else "Succeeded"

        return self._begin(request, finish, self.deployments[endpoint][name], 201 if new else 200, error)


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
