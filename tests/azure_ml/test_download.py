"""`fetch` from Azure: a base model out of a registry or a workspace, through the real SDK."""

import json
from pathlib import Path

import cloud as azure
import pytest
from front import Response
from in_process import run_stage

from olivepress.core.errors import PressError
from olivepress.fetch.sources import fetch_checkpoint

ROOT = Path(__file__).parents[2]
TINY = {path.name: path.read_bytes() for path in (ROOT / "data/tiny-phi3").iterdir()}
TOKENIZER = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
NAME, VERSION = "Phi-3.5-mini-instruct", "4"
REGISTRY_ID = f"azureml://registries/{azure.REGISTRY_NAME}/models/{NAME}/versions/{VERSION}"
IN_WORKSPACE = f"subscriptions/{azure.SUBSCRIPTION}/resourceGroups/{azure.GROUP}"
PROVIDER = "providers/Microsoft.MachineLearningServices"
WORKSPACE_IDS = [
    f"azureml:{NAME}:{VERSION}",
    f"azureml://{IN_WORKSPACE}/workspaces/{azure.WORKSPACE}/models/{NAME}/versions/{VERSION}",
    f"azureml://{IN_WORKSPACE}/{PROVIDER}/workspaces/{azure.WORKSPACE}/models/{NAME}/versions/{VERSION}",
    f"/{IN_WORKSPACE}/{PROVIDER}/workspaces/{azure.WORKSPACE}/models/{NAME}/versions/{VERSION}",
    f"azureml:/{IN_WORKSPACE}/{PROVIDER}/workspaces/{azure.WORKSPACE}/models/{NAME}/versions/{VERSION}",
]


def mlflow() -> dict[str, bytes]:
    """The catalogue's way to keep a model: folders for weights and tokenizer, and things we do not want beside."""
    files = {"MLmodel": b"flavors:", "conda.yaml": b"", "LICENSE": b"MIT", "data/model/pytorch_model.bin": b"pickle"}
    for name, content in TINY.items():
        if name == "LICENSE":  # at the top, as the catalogue has it
            continue
        files[f"data/{'tokenizer' if name in TOKENIZER else 'model'}/{name}"] = content
    return files


def held(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def failure(source: str, folder: Path) -> str:
    with pytest.raises(PressError) as caught:
        fetch_checkpoint(source, folder, trust_remote_code=False)
    return caught.value.message


def test_a_catalogue_model_from_a_registry(front, cloud, tmp_path):
    cloud.put_model(azure.REGISTRY_NAME, NAME, VERSION, mlflow(), root="mlflow_model_folder")
    assert fetch_checkpoint(REGISTRY_ID, tmp_path / "base", trust_remote_code=False) == REGISTRY_ID
    assert held(tmp_path / "base") == {**TINY, "LICENSE": b"MIT"}


@pytest.mark.parametrize("source", WORKSPACE_IDS)
def test_a_workspace_model(front, cloud, tmp_path, source):
    cloud.put_model(azure.WORKSPACE, NAME, VERSION, {**TINY, "modeling.py": b"import os", "model.pt": b"pickle"})
    assert fetch_checkpoint(source, tmp_path / "base", trust_remote_code=False) == source
    assert held(tmp_path / "base") == TINY


def test_fetch_as_dvc_calls_it(front, cloud, tmp_path):
    cloud.put_model(azure.REGISTRY_NAME, NAME, VERSION, mlflow(), root="mlflow_model_folder")
    places = {"--out": "base", "--inputs": "inputs.json", "--quality": "quality.json"}
    written = [text for option, name in places.items() for text in (option, str(tmp_path / name))]
    done = run_stage("fetch", "--source", REGISTRY_ID, "--watch", "params.yaml", *written)
    assert done.exit_code == 0, done.stderr
    inputs = json.loads((tmp_path / "inputs.json").read_text())
    assert inputs["source"] == REGISTRY_ID and inputs["architecture"] == "Phi3ForCausalLM"
    assert {path.name for path in tmp_path.iterdir()} == set(places.values())


@pytest.mark.parametrize(
    "source",
    [
        "azureml:name",
        "azureml:name:1:2",
        "azureml://registries/r/models/m",
        "azureml://registries/r/models/m/labels/latest",  # would move
        "azureml://subscriptions/s/workspaces/w/models/m/versions/1",
        "/subscriptions/s",
    ],
)
def test_a_malformed_id(front, tmp_path, source):
    message = failure(source, tmp_path / "base")
    assert message.startswith(f"model.source: {source}: expected azureml://registries/REGISTRY/models/NAME/versions/")
    assert not front.calls and not (tmp_path / "base").exists()


def test_a_model_that_does_not_exist(front, tmp_path):
    message = failure(f"azureml:{NAME}:9", tmp_path / "base")
    assert message.startswith(f"model.source: azureml:{NAME}:9: not found in workspace press-space")


def test_a_model_that_is_no_checkpoint(front, cloud, tmp_path):
    cloud.put_model(azure.WORKSPACE, NAME, VERSION, {"model.onnx": b"graph", "notes.txt": b""})
    message = failure(f"azureml:{NAME}:{VERSION}", tmp_path / "base")
    assert "expected one folder with config.json and safetensors, found 0. There are: " in message
    assert "model.onnx" in message


def test_two_checkpoints_in_one_model(front, cloud, tmp_path):
    both = {f"{part}/{name}": TINY[name] for part in ("a", "b") for name in ("config.json", "model.safetensors")}
    cloud.put_model(azure.WORKSPACE, NAME, VERSION, both)
    message = failure(f"azureml:{NAME}:{VERSION}", tmp_path / "base")
    assert "found 2" in message and "model/a, " in message and "model/b" in message


def test_a_download_that_is_cut_goes_on(front, cloud, tmp_path):
    cloud.put_model(azure.WORKSPACE, NAME, VERSION, TINY)
    front.fault("GET", r"model\.safetensors$", cut_after=1_000_000)
    fetch_checkpoint(f"azureml:{NAME}:{VERSION}", tmp_path / "base", trust_remote_code=False)
    assert held(tmp_path / "base") == TINY


def test_a_forbidden_download_leaves_nothing_that_could_be_taken_for_a_model(front, cloud, tmp_path):
    cloud.put_model(azure.WORKSPACE, NAME, VERSION, TINY)
    denied = Response(403, b"", {"x-ms-error-code": "AuthorizationPermissionMismatch"})
    front.fault("GET", r"model\.safetensors$", answer=denied)
    message = failure(f"azureml:{NAME}:{VERSION}", tmp_path / "base")
    assert "forbidden" in message and "Storage Blob Data" in message
    assert held(tmp_path / "base") == {}


def test_what_is_no_part_of_the_model_is_left_out(front, cloud, tmp_path):
    cloud.put_model(azure.WORKSPACE, NAME, VERSION, {**TINY, "consolidated.safetensors": TINY["model.safetensors"]})
    fetch_checkpoint(f"azureml:{NAME}:{VERSION}", tmp_path / "base", trust_remote_code=False)
    assert held(tmp_path / "base") == TINY


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Config.json", "has 'Config.json' and 'config.json', which are one file to some systems"),
        ("adapter_config.json", "adapter_config.json: the folder has an adapter"),
    ],
)
def test_files_of_azure_are_believed_as_little_as_others(front, cloud, tmp_path, name, expected):
    cloud.put_model(azure.WORKSPACE, NAME, VERSION, {**TINY, name: b"{}"})
    assert expected in failure(f"azureml:{NAME}:{VERSION}", tmp_path / "base")
