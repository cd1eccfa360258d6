"""What goes wrong between us and Azure: it is tried again where that helps, and explained where it does not."""

import cloud as azure
import pytest
from azure.core.pipeline.transport import HttpTransport
from front import Response
from test_publish import publish, stored

from olivepress.core.errors import PressError

THROTTLED = Response.error(429, "TooManyRequests", "Slow down.", Retry_After="1")
BROKEN = Response.error(500, "InternalServerError", "An internal error occurred.")
DENIED = Response.error(403, "AuthorizationFailed", "The client does not have authorization to perform action 'write'.")


def refusal(release, **changes) -> str:
    with pytest.raises(PressError) as caught:
        publish(release, **changes)
    return caught.value.message


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds that Azure's clients wait before they try again; here they do not."""
    waited: list[float] = []
    monkeypatch.setattr(HttpTransport, "sleep", lambda self, seconds: waited.append(seconds))
    return waited


def test_throttling_is_waited_out_as_long_as_azure_says(front, cloud, release, waits):
    front.fault("GET", r"/models/ft-for-travel/versions$", answer=THROTTLED, times=2)
    assert publish(release) == "1"
    assert waits == [1, 1], "Retry-After"
    looks = [call.status for call in front.calls if call.path.endswith("/ft-for-travel/versions")]
    assert looks == [429, 429, 200, 200]


@pytest.mark.parametrize("status", [500, 503])
def test_a_failing_service_is_tried_again(front, cloud, release, status):
    answer = Response.error(status, "ServiceError", "Try again.")
    front.fault("PUT", r"/models/ft-for-travel/versions/1$", answer=answer, times=2)
    assert publish(release) == "1"
    assert stored(cloud) == release.content()
    puts = [call.status for call in front.calls if call.method == "PUT" and call.path.endswith("/versions/1")]
    assert puts == [status, status, 201]


def test_a_service_that_stays_broken_is_given_up_and_a_rerun_sends_no_file_again(front, cloud, release, monkeypatch):
    monkeypatch.setattr("olivepress.azure.workspace.RETRIES", 2)  # 0 and 1.6 s instead of half a minute
    front.fault("PUT", r"/models/ft-for-travel/versions/1$", answer=BROKEN, times=3)
    message = refusal(release)
    assert message.startswith("ft-for-travel: publishing to workspace press-space, resource group press-group")
    assert "Azure still answers 500 after 2 retries (InternalServerError: An internal error occurred.)." in message
    front.calls.clear()
    assert publish(release) == "1"
    assert not [call for call in front.calls if call.host == cloud.blob_host and call.method == "PUT"]
    assert stored(cloud) == release.content()


def test_throttling_that_does_not_end_is_given_up(front, release, monkeypatch):
    monkeypatch.setattr("olivepress.azure.workspace.RETRIES", 1)
    front.fault("GET", r"/models/ft-for-travel/versions$", answer=THROTTLED, times=2)
    assert "Azure still answers 429 after 1 retries (TooManyRequests: Slow down.)" in refusal(release)


def test_a_connection_dropped_in_the_middle_of_an_upload_and_a_busy_storage(front, cloud, release, waits):
    """The storage client starts both files anew, after a wait of its own."""
    front.fault("PUT", r"model\.onnx\.data$", drop_after=500_000)
    front.fault("PUT", r"travel\.onnx_adapter$", answer=Response(503, b"", {"x-ms-error-code": "ServerBusy"}))
    assert publish(release) == "1"
    assert stored(cloud) == release.content()
    puts = [(call.path.rpartition("/")[2], call.status) for call in front.calls if call.method == "PUT"]
    assert [status for name, status in puts if name == "model.onnx.data"] == [0, 201]
    assert [status for name, status in puts if name == "travel.onnx_adapter"] == [503, 201]
    assert len(waits) == 2 and all(15 <= seconds <= 21 for seconds in waits)  # 18, give or take 3


def test_an_upload_that_died_is_not_taken_for_a_whole_one(front, cloud, release):
    """Refused in the middle (no retry for 403), some files lie there; the next try completes them."""
    front.fault("PUT", r"model\.onnx\.data$", answer=Response(403, b"", {"x-ms-error-code": "AuthenticationFailed"}))
    message = refusal(release)
    assert "forbidden" in message or "did not accept the login" in message
    assert not cloud.assets.get((azure.WORKSPACE, "models/ft-for-travel"))
    release.write("model/model.onnx.data", b"\0\1\2\3" * 300_000)
    assert publish(release) == "1"
    assert stored(cloud) == release.content()


def test_a_slow_answer_is_waited_for(front, release):
    front.fault("PUT", r"/models/ft-for-travel/versions/1$", delay=3)
    assert publish(release) == "1"


def test_a_dropped_connection_to_resource_manager_is_tried_again(front, cloud, release):
    front.fault("PUT", r"/models/ft-for-travel/versions/1$", drop_after=10)
    assert publish(release) == "1"
    assert stored(cloud) == release.content()


def test_no_login(front, release, monkeypatch):
    for name in azure.CREDENTIAL_NAMES:
        monkeypatch.delenv(name)
    message = refusal(release)
    assert "no Azure login that works. Run `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and" in message


def test_a_login_that_makes_no_sense(front, release, monkeypatch):
    monkeypatch.setenv("AZURE_CLIENT_ID", "")
    assert "Azure login: a variable AZURE_… in the environment is malformed: client_id" in refusal(release)


def test_a_wrong_secret(front, release, monkeypatch):
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "not this one")
    assert "AADSTS7000215: Invalid client secret" in refusal(release)


def test_an_expired_token(front, release):
    expired = {"token_type": "Bearer", "expires_in": 3599, "access_token": azure.token(f"https://{azure.ARM}", -60)}
    front.fault("POST", r"/oauth2/v2.0/token$", answer=Response.of(expired))
    message = refusal(release)
    assert "Azure did not accept the login (InvalidAuthenticationToken" in message and "az login" in message


@pytest.mark.parametrize(
    ("variable", "code"),
    [
        ("AZURE_SUBSCRIPTION_ID", "SubscriptionNotFound"),
        ("AZURE_RESOURCE_GROUP", "ResourceGroupNotFound"),
        ("AZUREML_WORKSPACE_NAME", "ResourceNotFound"),
    ],
)
@pytest.mark.parametrize("version", ["next", "1"])
def test_a_wrong_workspace(front, release, monkeypatch, variable, code, version):
    monkeypatch.setenv(variable, "elsewhere")
    message = refusal(release, version=version)
    assert f"({code}: " in message and "not found in workspace " in message and "elsewhere" in message
    assert "make azure-whoami" in message
    assert not [call for call in front.calls if call.method == "PUT"]


def test_a_registry_that_does_not_exist(front, release):
    message = refusal(release, to="azureml://registries/elsewhere")
    assert "not found in registry elsewhere" in message


def test_a_workspace_named_in_part(front, release, monkeypatch):
    monkeypatch.delenv("AZURE_RESOURCE_GROUP")
    expected = f"AZURE_RESOURCE_GROUP not set. Expected all of {', '.join(azure.WORKSPACE_NAMES)}."
    assert refusal(release) == f"Azure workspace: {expected}"
    assert not front.calls


def test_no_workspace_at_all(front, release, monkeypatch, tmp_path):
    for name in azure.WORKSPACE_NAMES:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    assert "Azure workspace: not named. Set AZURE_SUBSCRIPTION_ID" in refusal(release)


def test_forbidden(front, release):
    front.fault("PUT", r"/models/ft-for-travel/versions/1$", answer=DENIED)
    message = refusal(release)
    assert "forbidden (AuthorizationFailed: The client does not have authorization" in message
    assert "'AzureML Data Scientist' on the workspace" in message


def test_two_at_once(front, release):
    """Somebody else's version appears between our look and our call."""
    taken = Response.error(409, "Conflict", "Version 1 exists.")
    front.fault("PUT", r"/models/ft-for-travel/versions/1$", answer=taken)
    assert "Azure refused it with status 409: Conflict: Version 1 exists." in refusal(release)


def test_an_unknown_host_behind_the_proxy_is_no_network(front, release, monkeypatch):
    """The login works, Resource Manager's name leads nowhere."""
    services = {host: answer for host, answer in front.services.items() if host != azure.ARM}
    monkeypatch.setattr(front, "tls", {host: front.tls[host] for host in services})
    monkeypatch.setattr("olivepress.azure.workspace.RETRIES", 0)
    assert "Azure cannot be reached (" in refusal(release)
    assert set(front.refused) == {azure.ARM}
    front.refused.clear()
