"""What Azure ML is asked for: a managed online endpoint, and a deployment of a release in `olivepress serve`'s image.

A custom container, as Azure documents it (learn.microsoft.com, "Use a custom container to deploy a model to an online
endpoint"): the environment names the image and the port and paths for its probes and its requests, and the registered
model is mounted at MOUNT/<model>/<version>. A container there gets no arguments, so the server's options travel as
environment variables.
"""

import re
from dataclasses import dataclass
from typing import Any

from olivepress.azure.workspace import ModelStore, destination, workspace
from olivepress.core.errors import PressError

NAME = re.compile(r"[a-zA-Z](?=.{2,31}$)[-a-zA-Z0-9]*[a-zA-Z0-9]")
MODEL = re.compile(
    r"(?:azureml:)?(?P<name>[^:/]+):(?P<version>[^:/]+)"
    r"|(?P<place>azureml://registries/[^/]+)/models/(?P<registered>[^/]+)/versions/(?P<text>[^/]+)"
)
SCHEMAS = "https://azuremlschemas.azureedge.net/latest"
AUTH = ("key", "aad_token")
MOUNT = "/release"
PORT = 8000
# Azure ends a request after 180 s at most: the server ends its own before, and says so
REQUEST_SECONDS = 180
ANSWER_SECONDS = 170
# A model is hashed and loaded before the server is ready, minutes for a large one: Azure waits for 30 × 20 s.
PROBE = {"initial_delay": 10, "period": 20, "timeout": 5, "success_threshold": 1, "failure_threshold": 30}


@dataclass(frozen=True)
class Model:
    """A registered model's version, and the store that has it."""

    store: ModelStore
    name: str
    version: str

    @classmethod
    def of(cls, text: str, *, home: bool = True) -> "Model":
        """``NAME:VERSION`` of the workspace that the environment names, or a registry's long name.

        ``home`` False: the workspace is not looked for. PressError for another form, a label such as latest among them.
        """
        match = MODEL.fullmatch(text)
        if not match or (match["version"] or "1").startswith("@"):
            raise PressError(
                f"--model {text!r}: expected NAME:VERSION of the workspace, or "
                "azureml://registries/REGISTRY/models/NAME/versions/VERSION. A label (@latest) moves, and is not taken."
            )
        if match["place"]:
            return cls(destination(match["place"]), match["registered"], match["text"])
        return cls(workspace() if home else ModelStore(), match["name"], match["version"])

    def __str__(self) -> str:
        if self.store.registry:
            return f"azureml://registries/{self.store.registry}/models/{self.name}/versions/{self.version}"
        return f"azureml:{self.name}:{self.version}"


def checked_name(name: str, option: str) -> str:
    """The name, if Azure takes it for an endpoint or a deployment; PressError else."""
    if not NAME.fullmatch(name):
        raise PressError(
            f"{option} {name!r}: Azure takes 3 to 32 letters, digits and '-', a letter first, no '-' at the end."
        )
    return name


def traffic_of(text: str) -> dict[str, int]:
    """``blue=90,green=10`` as {"blue": 90, "green": 10}; PressError unless whole per cent that add up to 100."""
    shares: dict[str, int] = {}
    for part in text.split(","):
        name, equals, share = part.strip().partition("=")
        if not equals or not re.fullmatch(r"[0-9]{1,3}", share.strip()):
            raise PressError(f"--traffic {text!r}: {part.strip()!r} is no share. Expected such as blue=90,green=10.")
        name = checked_name(name.strip(), "--traffic")
        if name in shares:
            raise PressError(f"--traffic {text!r}: {name} stands there twice.")
        shares[name] = int(share)
    if sum(shares.values()) != 100:
        raise PressError(f"--traffic {text!r}: the shares add up to {sum(shares.values())}; expected 100.")
    return shares


def endpoint(name: str, auth: str, traffic: dict[str, int]) -> dict[str, Any]:
    """The endpoint as Azure ML's YAML schema has it."""
    return {
        "$schema": f"{SCHEMAS}/managedOnlineEndpoint.schema.json",
        "name": name,
        "description": "olivepress serve: OpenAI's interface",
        "auth_mode": auth,
        **({"traffic": traffic} if traffic else {}),
    }


def deployment(
    name: str, endpoint_name: str, model: Model, *, image: str, instance_type: str, instances: int, slots: int
) -> dict[str, Any]:
    """The deployment as Azure ML's YAML schema has it. ``slots``: answers at a time in an instance."""
    options = {
        "FOLDER": f"{MOUNT}/{model.name}/{model.version}",  # holds the folder that was registered
        "HOST": "0.0.0.0",
        "PORT": str(PORT),
        "SLOTS": str(slots),
        "TIMEOUT": str(ANSWER_SECONDS),
    }
    routes = {"liveness_route": "/healthz", "readiness_route": "/readyz", "scoring_route": "/"}
    return {
        "$schema": f"{SCHEMAS}/managedOnlineDeployment.schema.json",
        "name": name,
        "endpoint_name": endpoint_name,
        "model": str(model),
        "model_mount_path": MOUNT,
        "environment": {
            "image": image,
            "inference_config": {route: {"port": PORT, "path": path} for route, path in routes.items()},
        },
        "environment_variables": {f"OLIVEPRESS_SERVE_{option}": value for option, value in options.items()},
        "instance_type": instance_type,
        "instance_count": instances,
        "request_settings": {
            "request_timeout_ms": REQUEST_SECONDS * 1000,
            "max_concurrent_requests_per_instance": slots,
        },
        "liveness_probe": dict(PROBE),
        "readiness_probe": dict(PROBE),
    }
