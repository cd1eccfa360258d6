"""`olivepress azure deploy`, `traffic` and `undeploy`: the real SDK against a local Azure, over HTTPS."""

import cloud as azure
import online
import pytest
import yaml
from click.testing import CliRunner
from front import Response
from test_publish import made, publish

from olivepress.tools.deploy.command import deploy, traffic, undeploy

IMAGE = "press.azurecr.io/olivepress-serve:cpu"
ENDPOINT = "press-travel"


def run(command, *options: str):
    done = CliRunner().invoke(command, ["--endpoint", ENDPOINT, *options])
    assert "Traceback" not in done.stderr
    for key in online.KEYS.values():
        assert key not in done.output
    return done


def deployed(name: str, *options: str, model: str = "ft-for-travel:1"):
    return run(deploy, "--deployment", name, "--model", model, "--image", IMAGE, *options)


def shares(cloud) -> dict[str, int]:
    return cloud.online.endpoints[ENDPOINT]["properties"]["traffic"]


def test_a_dry_run_shows_what_would_be_asked_for_and_calls_nobody(front):
    done = deployed("green", "--traffic", "blue=90,green=10", "--dry-run", model="ft-for-travel:3")
    assert done.exit_code == 0 and not done.stderr and not front.calls
    endpoint, deployment = yaml.safe_load_all(done.stdout)
    assert endpoint["auth_mode"] == "key" and endpoint["traffic"] == {"blue": 90, "green": 10}
    assert deployment["model"] == "azureml:ft-for-travel:3" and deployment["environment"]["image"] == IMAGE
    routes = deployment["environment"]["inference_config"]
    assert {name: route["path"] for name, route in routes.items()} == {
        "liveness_route": "/healthz",
        "readiness_route": "/readyz",
        "scoring_route": "/",
    }


def test_create_then_blue_and_green_then_delete(front, cloud, release):
    publish(release)
    done = deployed("blue")
    assert done.exit_code == 0, done.stderr
    assert shares(cloud) == {"blue": 100}  # the first gets everything
    assert "traffic    blue 100 %\n" in done.stdout
    assert f"answers    https://{ENDPOINT}.eastus.inference.ml.azure.com/\n" in done.stdout
    assert f"az ml online-endpoint get-credentials --name {ENDPOINT}" in done.stdout

    release.write("adapters/travel.onnx_adapter", b"better")
    release.seal()
    publish(release)
    assert deployed("green", model="ft-for-travel:2").exit_code == 0
    assert shares(cloud) == {"blue": 100}  # a second gets nothing until it is told
    done = run(traffic, "--traffic", "blue=90,green=10")
    assert done.exit_code == 0, done.stderr
    assert shares(cloud) == {"blue": 90, "green": 10}
    models = {name: found["properties"]["model"] for name, found in cloud.online.deployments[ENDPOINT].items()}
    assert {name: model.rsplit("/", 1)[1] for name, model in models.items()} == {"blue": "1", "green": "2"}

    done = run(undeploy, "--deployment", "blue", "--yes")
    assert done.exit_code == 1 and "deployment blue gets 90 % of the requests" in done.stderr
    assert run(traffic, "--traffic", "green=100").exit_code == 0
    assert run(undeploy, "--deployment", "blue", "--yes").exit_code == 0
    assert list(cloud.online.deployments[ENDPOINT]) == ["green"] and shares(cloud) == {"green": 100}
    done = run(undeploy, "--yes")
    assert done.exit_code == 0 and done.stdout == f"deleted  endpoint {ENDPOINT}\n"
    assert not cloud.online.endpoints
    assert set(cloud.assets[azure.WORKSPACE, "models/ft-for-travel"]) == {"1", "2"}  # models stay


def test_what_azure_is_asked_for(front, cloud, release):
    publish(release)
    front.calls.clear()
    assert deployed("blue", "--instances", "2", "--slots", "4", "--auth", "aad_token").exit_code == 0
    place = f"/workspaces/press-space/onlineEndpoints/{ENDPOINT}"
    writes = [call for call in made(front) if " PUT " in call or " DELETE " in call]
    environment = [call for call in writes if "CliV2AnonymousEnvironment" in call]
    assert len(environment) == 1
    assert [call for call in writes if call not in environment] == [
        f"201 PUT {place}",
        f"201 PUT {place}/deployments/blue",
        f"200 PUT {place}",  # traffic
    ]
    assert not [call for call in made(front) if "listKeys" in call]
    asked = cloud.online.deployments[ENDPOINT]["blue"]
    assert asked["sku"]["capacity"] == 2
    properties = asked["properties"]
    assert properties["modelMountPath"] == "/release" and properties["instanceType"] == "Standard_DS3_v2"
    assert properties["environmentVariables"] == {
        "OLIVEPRESS_SERVE_FOLDER": "/release/ft-for-travel/1",
        "OLIVEPRESS_SERVE_HOST": "0.0.0.0",
        "OLIVEPRESS_SERVE_PORT": "8000",
        "OLIVEPRESS_SERVE_SLOTS": "4",
        "OLIVEPRESS_SERVE_TIMEOUT": "170",
    }
    assert properties["requestSettings"]["requestTimeout"] == "PT3M"
    assert properties["requestSettings"]["maxConcurrentRequestsPerInstance"] == 4
    assert properties["readinessProbe"]["period"] == "PT20S"
    assert cloud.online.endpoints[ENDPOINT]["properties"]["authMode"] == "AADToken"
    (image,) = (
        version["properties"]
        for key, versions in cloud.assets.items()
        if key[1].startswith("environments/")
        for version in versions.values()
    )
    assert image["image"] == IMAGE
    assert image["inferenceConfig"]["readinessRoute"] == {"path": "/readyz", "port": 8000}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--traffic", "blue=90,green=9"], "the shares add up to 99; expected 100"),
        (["--traffic", "blue=90,blue=10"], "blue stands there twice"),
        (["--traffic", "blue"], "'blue' is no share"),
        (["--traffic", "blue=-10,green=110"], "'blue=-10' is no share"),
        (["--deployment", "-blue"], "--deployment '-blue': Azure takes 3 to 32 letters"),
        (["--endpoint", "ab"], "--endpoint 'ab': Azure takes 3 to 32 letters"),
        (["--model", "ft-for-travel@latest"], "expected NAME:VERSION"),
        (["--model", "ft-for-travel:@latest"], "A label (@latest) moves"),
    ],
)
def test_what_azure_would_refuse_is_refused_before_any_call(front, options, message):
    done = deployed("blue", *options)
    assert done.exit_code == 1 and message in done.stderr, done.stderr
    assert not front.calls


def test_a_model_that_is_not_there_or_not_ours(front, cloud, release):
    done = deployed("blue")
    assert done.exit_code == 1 and "azureml:ft-for-travel:1 is not in workspace press-space" in done.stderr
    cloud.put_model(azure.WORKSPACE, "other", "1", {"model.bin": b"x"})
    done = deployed("blue", model="other:1")
    assert done.exit_code == 1 and "azureml:other:1 is no release that olivepress published" in done.stderr
    assert not cloud.online.endpoints


def test_a_model_in_a_registry(front, cloud, release):
    publish(release, "1.2.0", to=f"azureml://registries/{azure.REGISTRY_NAME}")
    place = f"azureml://registries/{azure.REGISTRY_NAME}/models/ft-for-travel/versions/1.2.0"
    done = deployed("blue", model=place)
    assert done.exit_code == 0, done.stderr
    properties = cloud.online.deployments[ENDPOINT]["blue"]["properties"]
    assert properties["model"] == place
    assert properties["environmentVariables"]["OLIVEPRESS_SERVE_FOLDER"] == "/release/ft-for-travel/1.2.0"


def test_a_container_that_does_not_start_is_told_with_its_last_words(front, cloud, release):
    publish(release)
    cloud.online.failing["blue"] = {"code": "ResourceNotReady", "message": "User container has crashed."}
    cloud.online.logs = "Error: /release: not there.\n"
    done = deployed("blue")
    assert done.exit_code == 1
    assert "deployment blue of press-travel: being started, for some minutes: Azure could not do it:" in done.stderr
    assert "User container has crashed." in done.stderr and "  Error: /release: not there.\n" in done.stderr
    assert "olivepress azure undeploy --endpoint press-travel --deployment blue" in done.stderr
    assert not shares(cloud)  # nobody is sent to it
    del cloud.online.failing["blue"]
    assert deployed("blue").exit_code == 0  # the same command, once mended
    assert shares(cloud) == {"blue": 100}


def test_too_few_machines(front, cloud, release):
    publish(release)
    quota = Response.error(400, "OutOfQuota", "Not enough quota available for Standard_DS3_v2.")
    front.fault("PUT", r"/deployments/blue$", answer=quota)
    done = deployed("blue")
    assert done.exit_code == 1
    assert "endpoint press-travel: Azure refused it with status 400: OutOfQuota: Not enough quota" in done.stderr


def test_an_endpoint_that_is_not_there(front):
    for command, options in ((traffic, ["--traffic", "blue=100"]), (undeploy, ["--yes"])):
        done = run(command, *options)
        assert done.exit_code == 1 and "endpoint press-travel: not in workspace press-space" in done.stderr
        assert "There: none." in done.stderr


def test_names_and_ways_in_that_the_endpoint_does_not_have(front, cloud, release):
    publish(release)
    assert deployed("blue").exit_code == 0
    done = deployed("green", "--traffic", "blue=50,red-one=50")
    assert done.exit_code == 1 and "has no deployment red-one. There: blue, green." in done.stderr
    assert list(cloud.online.deployments[ENDPOINT]) == ["blue"]
    done = run(traffic, "--traffic", "green=100")
    assert done.exit_code == 1 and "has no deployment green. There: blue." in done.stderr
    done = deployed("green", "--auth", "aad_token")
    assert done.exit_code == 1 and "asks for key, not aad_token: say --auth key" in done.stderr
    done = run(undeploy, "--deployment", "green", "--yes")
    assert done.exit_code == 1 and "has no deployment green" in done.stderr


def test_nothing_is_deleted_unasked(front, cloud, release):
    publish(release)
    assert deployed("blue").exit_code == 0
    done = run(undeploy)
    assert done.exit_code == 1
    assert "Delete the endpoint press-travel (blue with 100 %) in workspace press-space" in done.stderr
    assert "say --yes" in done.stderr
    assert ENDPOINT in cloud.online.endpoints
