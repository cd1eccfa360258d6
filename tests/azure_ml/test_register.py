"""`register` with backend azureml as DVC runs it: the project's own dvc.yaml and params, a local Azure."""

import json
import shutil
import subprocess
from pathlib import Path

import cloud as azure
import pytest
import yaml

ROOT = Path(__file__).parents[2]
RECORD = "models/registered/cpu-int4.json"

WITHOUT = {
    "rows": 160,
    "loss": {"base": 0.5, "quantized": 0.53, "quantized_onnx": 0.53},
    "kl_divergence": {"quantized": 0.01},
    "same_top_token": {"quantized": 0.98},
}
WITH = {
    "rows": 70,
    "loss": {"base": 9.8, "quantized": 9.7, "quantized_onnx": 9.7, "finetuned": 5.0, "finetuned_onnx": 5.01},
    "kl_divergence": {"quantized": 0.01, "finetuned": 0.01},
    "same_top_token": {"quantized": 0.98, "finetuned": 0.98},
}
GENERAL, ADAPTED = {"general": WITHOUT}, {"held_out": WITH, "general": WITH}
# what the stages before register wrote, as far as it reads that
BEFORE = {
    "models/inputs/base.json": {
        "source": "data/tiny-phi3",
        "declared_licence": "mit",
        "architecture": "Phi3ForCausalLM",
        "files": {"config.json": {"bytes": 2, "sha256": "0" * 64}},
    },
    "models/inputs/calibration.json": {"data": "data/calibration.jsonl", "sha256": "1" * 64},
    "results/quality/fetch.json": {"parameters": 3410176, "weight_bytes": 6820352},
    "results/quality/quantize.json": {
        "bits_per_quantized_weight": 4.625,
        "bits_per_weight": 8.13,
        "size_ratio": 0.5081,
    },
    "results/quality/auto-opt/cpu-int4.json": {"proved": {"model.onnx": "run"}},
    "results/quality/evaluate-base/cpu-int4.json": GENERAL,
    "results/quality/gate/cpu-int4.json": {"finetuning_gain": 4.7},
}
BEFORE_OF_ADAPTER = {
    "models/inputs/data/{}.json": {"data": "data/rows.jsonl", "sha256": "2" * 64},
    "results/quality/prepare/{}.json": {"train": {"rows": 300}, "held_out": {"rows": 70}},
    "results/quality/finetune/{}.json": {"held_out_loss": {"before": 9.7, "after": 5.0}},
    "results/quality/smoke-infer/cpu-int4/{}.json": {"prompts": 3, "changed": 3},
    "results/quality/evaluate/cpu-int4/{}.json": ADAPTED,
}


class Project:
    """A git and DVC repository with the register stage alone; what comes before it lies there."""

    def __init__(self, folder: Path, release) -> None:
        self.folder = folder
        for name in ("stages", "olivepress"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        names = release.manifest["adapters"]
        of_adapters = {path.format(name): value for path, value in BEFORE_OF_ADAPTER.items() for name in names}
        for path, value in (BEFORE | of_adapters).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(json.dumps(value))
        shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "*.local"))
        shutil.copytree(release.folder, folder / "models/onnx/cpu-int4")
        (folder / "models/onnx/cpu-int4/manifest.json").unlink()
        (folder / "models/onnx/cpu-int4/README.md").unlink()
        graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"register": graph["stages"]["register"]}}))
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["register"]["backend"] = "azureml"
        self.params = params
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        self.run("git", "init", "-q")
        self.commit("first")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def commit(self, message: str) -> str:
        self.run("git", "add", "-A")
        author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        self.run("git", *author, "commit", "-q", "--allow-empty", "-m", message)
        return self.run("git", "rev-parse", "HEAD").stdout.strip()

    def set(self, section: str, **changes: str) -> None:
        target = self.params["azure"]["publish"] if section == "publish" else self.params[section]
        target.update(changes)
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params))

    def repro(self, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("dvc", "repro", *options, "register@cpu-int4", check=check)

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")


@pytest.fixture
def project(front, release, tmp_path) -> Project:
    return Project(tmp_path / "project", release)


def uploads(front) -> list[str]:
    return [call.path for call in front.calls if call.method == "PUT"]


def test_repro_publishes_once(project, front, cloud):
    done = project.repro()
    assert "ft-for-travel version 1 published to workspace press-space" in done.stderr
    record = json.loads(project.read(RECORD))
    published = cloud.assets[azure.WORKSPACE, "models/ft-for-travel"]["1"]["properties"]
    assert record == {
        "backend": "azureml",
        "name": "ft-for-travel",
        "version": "0.1.0",
        "content_sha256": published["properties"]["content_sha256"],
        "azure_version": "1",
    }
    home = f"{published['modelUri'].partition('/paths/')[2]}/"
    blobs = {path.removeprefix(home): content for path, content in cloud.blobs().items()}
    assert json.loads(blobs["manifest.json"]) == json.loads(project.read("models/onnx/cpu-int4/manifest.json"))
    assert ".gitignore" not in blobs and "model/model.onnx.data" in blobs

    # unchanged: nothing runs, nothing is called
    front.calls.clear()
    assert "didn't change" in project.repro().stdout
    assert not front.calls

    # forced, from another commit: the same bytes are there, so nothing is sent and every output is the same
    lock = project.read("dvc.lock")
    commit = project.commit("second")
    project.repro("--force", "--no-run-cache")
    assert not uploads(front)
    assert project.read("dvc.lock") == lock
    assert commit not in lock + project.read(RECORD) + project.read("models/onnx/cpu-int4/manifest.json")


def test_where_it_is_published_changes_no_byte_of_the_release(project, front, cloud):
    project.repro()
    manifest = project.read("models/onnx/cpu-int4/manifest.json")
    registry = f"azureml://registries/{azure.REGISTRY_NAME}"
    project.set("publish", destination=registry, azure_version="0.1.0")
    project.repro()
    assert list(cloud.assets[azure.REGISTRY_NAME, "models/ft-for-travel"]) == ["0.1.0"]
    project.set("register", backend="local")
    front.calls.clear()
    project.repro()
    assert not front.calls
    assert project.read("models/onnx/cpu-int4/manifest.json") == manifest
    assert json.loads(project.read(RECORD))["backend"] == "local"


def test_a_refusal_fails_the_stage_and_keeps_the_record_of_before(project, front, cloud):
    project.set("publish", azure_version="3")
    project.repro()
    record = project.read(RECORD)
    project.set("register", version="0.2.0")  # in the manifest and the card: other bytes
    done = project.repro(check=False)
    assert done.returncode != 0
    assert "ft-for-travel version 3 is published with other bytes" in done.stderr
    assert "Traceback" not in done.stderr
    assert project.read(RECORD) == record
    assert not list((project.folder / "models/onnx").glob(".upload-*"))
