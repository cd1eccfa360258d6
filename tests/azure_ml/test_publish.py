"""`register` to Azure: the real SDK against a local Azure, over HTTPS."""

import json
import re
import subprocess

import cloud as azure
import pytest

from olivepress.azure import publish as azure_publish
from olivepress.core.errors import PressError

REGISTRY = f"azureml://registries/{azure.REGISTRY_NAME}"


def publish(release, version="next", *, to="workspace", name="{name}") -> str:
    return azure_publish.publish(
        release.manifest, release.folder, release.files, to=to, azure_name=name, azure_version=version
    )


def stored(cloud, place=azure.WORKSPACE, name="ft-for-travel", version="1") -> dict[str, bytes]:
    """Path in the release -> bytes, as the version's own address finds them in the storage."""
    uri = cloud.assets[place, f"models/{name}"][version]["properties"]["modelUri"]
    root = uri.partition("/paths/")[2] if uri.startswith("azureml://") else uri.split("/", 4)[4]
    blobs = cloud.blobs(cloud.container_of(place, name, version))
    return {path.removeprefix(f"{root}/"): content for path, content in blobs.items() if path.startswith(f"{root}/")}


def made(front) -> list[str]:
    """The calls that were made, without what differs from run to run."""
    calls = []
    for call in front.calls:
        path = re.sub(r"^/subscriptions/.*?/Microsoft\.MachineLearningServices", "", call.path)
        path = re.sub(r"^/mferp.*?/Microsoft\.MachineLearningServices", "mfe:", path)
        path = re.sub(r"LocalUpload/[0-9a-f]+|(registry|code)-[0-9a-f-]+", "UPLOAD", path)
        path = re.sub(r"az-ml-artifacts/[0-9a-f]+", "LEGACY", path)
        path = re.sub(r"operations/[0-9a-f]+", "operations/ID", path.replace(azure.TENANT, "TENANT"))
        calls.append(f"{call.status} {call.method} {path}")
    return calls


def test_the_calls_of_a_first_publish_to_a_workspace(front, release):
    assert publish(release) == "1"
    calls = made(front)
    uploads = [call for call in calls if call.startswith("201 PUT /azureml-blobstore/UPLOAD/")]
    home = "201 PUT /azureml-blobstore/UPLOAD/ft-for-travel"
    assert sorted(uploads) == sorted(f"{home}/{file}" for file in release.files)
    assert [call for call in calls if call not in uploads] == [
        "200 GET /TENANT/v2.0/.well-known/openid-configuration",
        "200 POST /TENANT/oauth2/v2.0/token",
        "200 GET /workspaces/press-space/models/ft-for-travel/versions",  # is it published already?
        "200 GET /workspaces/press-space/models/ft-for-travel/versions",  # the SDK's own look
        "404 GET /workspaces/press-space/models/ft-for-travel",  # the next version
        "200 GET /workspaces/press-space/datastores/workspaceblobstore",
        "200 POST /workspaces/press-space/datastores/workspaceblobstore/listSecrets",
        "404 HEAD /azureml-blobstore/UPLOAD/ft-for-travel/README.md",  # uploaded already?
        "200 PUT /azureml-blobstore/UPLOAD/ft-for-travel/README.md",  # marks the upload as whole
        "201 PUT /workspaces/press-space/models/ft-for-travel/versions/1",
    ]
    assert all(call.query.get("api-version") for call in front.calls if call.host == azure.ARM)


def test_what_a_workspace_holds_then(front, cloud, release, tmp_path):
    publish(release)
    assert stored(cloud) == release.content()
    found = cloud.assets[azure.WORKSPACE, "models/ft-for-travel"]["1"]["properties"]
    content = azure_publish.content_hash(release.folder, release.files)
    assert found["modelType"] == "custom_model"
    assert "Phi3ForCausalLM" in found["description"] and "travel, cooking" in found["description"]
    assert found["properties"]["content_sha256"] == content
    assert found["properties"]["files"] == str(len(release.files))
    tags = found["tags"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert tags["git_commit"] == commit
    assert tags["git_clean"] in ("true", "false")
    assert tags["release"] == "0.1.0" and tags["target"] == "cpu-int4" and tags["licence"] == "MIT"
    assert tags["sha256.travel"] == release.manifest["files"]["adapters/travel.onnx_adapter"]["sha256"]
    assert (
        tags["loss.travel"] == "5.0137" and tags["loss.general"] == "0.52" and tags["same_top_token.general"] == "0.98"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["cpu-int4"]  # no scratch folder stays


def test_the_same_bytes_again_upload_nothing(front, cloud, release, capsys):
    publish(release)
    front.calls.clear()
    assert publish(release) == "1"
    assert not [call for call in front.calls if call.method in ("PUT", "POST") and call.host != azure.LOGIN]
    assert "has these very bytes: nothing to do" in capsys.readouterr().err
    assert list(cloud.assets[azure.WORKSPACE, "models/ft-for-travel"]) == ["1"]


def test_a_changed_release_gets_the_next_version_and_the_old_one_is_still_found(front, cloud, release, tmp_path):
    old = release.copy(tmp_path / "old")
    publish(release)
    for number in (2, 3, 4):  # more versions than a page of the list holds
        release.write("adapters/travel.onnx_adapter", f"new {number}".encode())
        release.seal()
        assert publish(release) == str(number)
    assert stored(cloud, version="4") == release.content()
    assert stored(cloud, version="1") == old.content()
    front.calls.clear()
    assert publish(old) == "1"
    assert [call.query.get("$skip") for call in front.calls if call.path.endswith("/versions")] == [None, "2"]


def test_a_version_of_ones_own(front, cloud, release):
    assert publish(release, "7") == "7"
    assert publish(release, "7") == "7"
    assert list(cloud.assets[azure.WORKSPACE, "models/ft-for-travel"]) == ["7"]
    release.write("adapters/travel.onnx_adapter", b"other")
    release.seal()
    front.calls.clear()
    with pytest.raises(PressError, match=r"version 7 is published with other bytes .* take another version"):
        publish(release, "7")
    assert not [call for call in front.calls if call.method == "PUT"]
    assert publish(release, "next") == "8"


def test_a_version_that_somebody_else_made_is_not_touched(front, cloud, release):
    cloud.assets[azure.WORKSPACE, "models/ft-for-travel"] = {
        "1": {
            "id": azure.resource_id(f"workspaces/{azure.WORKSPACE}/models/ft-for-travel/versions/1"),
            "properties": {"modelUri": "azureml://datastores/d/paths/x", "tags": {}, "properties": {}, "flavors": {}},
        }
    }
    with pytest.raises(PressError, match=r"version 1 is published with other bytes \(content_sha256 unknown"):
        publish(release, "1")
    assert publish(release) == "2"


def test_a_registry_and_its_long_running_operation(front, cloud, release):
    assert publish(release, "1.2.0", to=REGISTRY, name="{name}-{target}") == "1.2.0"
    calls = made(front)
    place = "mfe:/registries/press-registry"
    assert [call for call in calls if "UPLOAD" not in call and "TENANT" not in call] == [
        "200 GET /registrymanagement/v1.0/registries/press-registry/discovery",
        f"404 GET {place}/models/ft-for-travel-cpu-int4/versions/1.2.0",
        f"200 GET {place}/models/ft-for-travel-cpu-int4/versions",
        f"200 PUT {place}/tempdatarefs/ft-for-travel-cpu-int4/versions/1.2.0",
        f"201 PUT {place}/models/ft-for-travel-cpu-int4/versions/1.2.0",
        "200 GET /operations/ID",  # in progress
        "200 GET /operations/ID",  # done
        f"200 GET {place}/models/ft-for-travel-cpu-int4/versions/1.2.0",  # the operation's result
        f"200 GET {place}/models/ft-for-travel-cpu-int4/versions/1.2.0",  # the SDK's own look
    ]
    assert stored(cloud, azure.REGISTRY_NAME, "ft-for-travel-cpu-int4", "1.2.0") == release.content()
    assert publish(release, "1.2.0", to=REGISTRY, name="{name}-{target}") == "1.2.0"
    release.write("README.md", b"# another card")
    with pytest.raises(PressError, match=r"version 1\.2\.0 is published with other bytes"):
        publish(release, "1.2.0", to=REGISTRY, name="{name}-{target}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "ft.for.travel"}, "azure.publish.azure_name: 'ft.for.travel': Azure takes letters, digits, '-'"),
        ({"name": "-{name}"}, "azure.publish.azure_name: '-ft-for-travel'"),
        ({"name": "{names}"}, "azure.publish.azure_name: '{names}': only {name} and {target} are filled in"),
        ({"version": "0.1.0"}, "azure.publish.azure_version: '0.1.0': as a model's version a workspace takes whole"),
        ({"version": "0"}, "azure.publish.azure_version: '0'"),
        ({"version": "1" * 31, "to": REGISTRY}, "a registry takes letters, digits, '.', '_' and '-', at most 30"),
        ({"to": "azureml://elsewhere"}, "azure.publish.destination: 'azureml://elsewhere': expected workspace, "),
    ],
)
def test_what_azure_would_refuse_is_refused_before_any_call(front, release, changes, message):
    with pytest.raises(PressError) as caught:
        publish(release, **changes)
    assert message in caught.value.message
    assert not front.calls


def test_the_services_own_refusal_is_passed_on(front, release):
    refusal = azure.Response.error(400, "UserError", "Model name is reserved.")
    front.fault("PUT", r"/versions/1$", answer=refusal)
    with pytest.raises(PressError, match=r"Azure refused it with status 400: UserError: Model name is reserved\."):
        publish(release)


def test_bytes_that_lie_elsewhere_are_uploaded_through_links(front, cloud, release, tmp_path):
    """DVC may link a release's files into its cache."""
    data = release.folder / "model/model.onnx.data"
    data.rename(tmp_path / "cached")
    data.symlink_to(tmp_path / "cached")
    publish(release)
    assert stored(cloud)["model/model.onnx.data"] == (tmp_path / "cached").read_bytes()


def test_more_adapters_than_there_is_room_for_tags(release):
    measured = release.manifest["quality"]["evaluate"]["travel"]
    release.manifest["quality"]["evaluate"] = {f"adapter-{number}": measured for number in range(60)}
    release.manifest["base"]["source"] = "x" * 1000
    tags = azure_publish.tags(release.manifest, "0" * 64)
    assert len(tags) == 50 and max(map(len, tags.values())) == 256
    assert tags["release"] == "0.1.0" and tags["content_sha256"] == "0" * 64
    assert json.dumps(tags)
