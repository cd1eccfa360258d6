"""Adapters and targets come and go: what is gone leaves nothing, what is new reruns itself alone."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from graph import ran

import olivepress
from olivepress.core.artifact import LIBRARIES
from olivepress.core.outputs import sha256
from olivepress.export.operator_library import check_library
from olivepress.results.stale import stale_stages

OF_TRAVEL = {"convert-adapter", "smoke-infer", "evaluate"}


def edit(space, change) -> None:
    """Change the composed params, as an edit of the profile and `make params` would."""
    params = yaml.safe_load(space.read("params.yaml"))
    change(params)
    params["shipped"]["adapter"] = list(params["adapters"])
    space.write("params.yaml", yaml.safe_dump(params, sort_keys=False))


def named(space, name: str) -> list[str]:
    """The files that are called ``name``, and what tells of the whole run and has the word."""
    command = (
        f"find models results data/prepared logs -name '*{name}*'; "
        f"grep -l {name} dvc.lock models/onnx/*/manifest.json models/onnx/*/README.md"
    )
    return space.run("bash", "-c", command, check=False).stdout.split()


def clean_clone(space, tmp_path: Path):
    """A clone of the committed project with its outputs pulled from a remote."""
    space.run("dvc", "remote", "add", "--default", "--force", "storage", str(tmp_path / "storage"))
    space.run("dvc", "push", "-q")
    space.commit("As it is now")
    clone = type(space)(tmp_path / "clone")
    space.run("git", "clone", "-q", space.folder, clone.folder)
    clone.run("dvc", "pull", "-q")
    return clone


def test_an_adapter_that_is_removed_leaves_nothing(finished, one_adapter, tmp_path):
    before = set(named(finished, "cooking"))
    assert {"dvc.lock", "models/onnx/cpu-int4/README.md", "logs/finetune@cooking.log"} <= before
    space = one_adapter.copy(tmp_path / "space")
    assert ran(one_adapter.said) == {"check-params", "gate@cpu-int4", "register@cpu-int4"}
    (gone,) = re.findall(r"files and folders of stages that the params no longer have: (.*)", one_adapter.said)
    assert {"await-data@cooking", "prepare@cooking", "finetune@cooking"} <= set(gone.split(", "))
    assert named(space, "cooking") == []
    manifest = json.loads(space.read("models/onnx/cpu-int4/manifest.json"))
    assert manifest["adapters"] == ["travel"]
    assert [path for path in manifest["files"] if path.startswith("adapters/")] == ["adapters/travel.onnx_adapter"]
    clone = clean_clone(space, tmp_path)
    assert "up to date" in clone.run("dvc", "status").stdout
    assert clone.repro() == set()
    clone.run("rm", "-rf", "models/onnx/cpu-int4/model", ".dvc/cache")
    assert "Running stage" not in clone.run("dvc", "repro", "--allow-missing", "--dry").stdout


@pytest.mark.slow
def test_an_adapter_that_is_renamed_has_its_new_name_alone(finished, tmp_path):
    space = finished.copy(tmp_path / "space")

    def rename(params: dict) -> None:
        travel, cooking = (params["adapters"][name] for name in ("travel", "cooking"))
        cooking["lora"] |= {"steps": 10, "eval_steps": 10}  # its quality is not looked at
        params["adapters"] = {"travel": travel, "recipes": cooking}

    edit(space, rename)
    new = space.repro()
    assert {"prepare@recipes", "finetune@recipes", "evaluate@recipes-cpu-int4", "register@cpu-int4"} <= new
    assert not [stage for stage in new if "travel" in stage]
    # the data set keeps its name
    assert not [path for path in named(space, "cooking") if "cooking" in path]
    assert not [name for name in yaml.safe_load(space.read("dvc.lock"))["stages"] if "cooking" in name]
    assert json.loads(space.read("models/onnx/cpu-int4/manifest.json"))["adapters"] == ["travel", "recipes"]
    assert "up to date" in clean_clone(space, tmp_path).run("dvc", "status").stdout


@pytest.mark.slow
def test_a_second_target_with_native_operators_is_released_too_and_stays_alone(one_adapter, tmp_path):
    """Exported, answered, evaluated and registered with the library, whose hash and nature the release tells."""
    space = one_adapter.copy(tmp_path / "space")
    edit(
        space, lambda params: params["targets"].update(native={**params["targets"]["cpu-int4"], "lora_operator": True})
    )
    new = space.repro()
    assert not [name for name in new if name.endswith("cpu-int4") and not name.startswith("register@")]
    assert {
        "auto-opt@native",
        "evaluate@travel-native",
        "evaluate-base@native",
        "gate@native",
        "register@native",
    } <= new
    release = space.folder / "models/onnx/native"
    files, card = json.loads((release / "manifest.json").read_text())["files"], (release / "README.md").read_text()
    for processor, name in LIBRARIES.items():
        assert files[f"model/{name}"]["sha256"] == sha256(check_library().with_name(name))
        assert f"`model/{name}` ({processor})" in card
    assert "The folder has two graphs" in space.read("models/onnx/cpu-int4/README.md")
    space.commit("Two targets")
    space.run("git", "tag", "-a", "ft-for-travel@v0.1.0", "-m", "release")
    space.run("dvc", "artifacts", "get", ".", "ft-for-travel", "--out", tmp_path / "got")
    assert {path.name for path in (tmp_path / "got").iterdir()} == {"cpu-int4", "native"}
    for target in ("cpu-int4", "native"):
        model = olivepress.load(tmp_path / "got", target=target)
        seen = json.loads(space.read(f"results/answers/{target}/travel.json"))[-1]
        assert model.answer(seen["prompt"], seen["adapter"], max_new_tokens=48).text == seen["text"]

    def less(params: dict) -> None:
        del params["targets"]["cpu-int4"]
        params["evaluate"].update(held_out_rows=20, general_rows=20)

    edit(space, less)
    assert "register@native" in space.repro()
    for place in ("evaluate/native/travel", "evaluate-base/native"):
        measured = json.loads(space.read(f"results/quality/{place}.json"))
        assert {each["rows"] for each in measured.values()} == {20}
    assert {path.name for path in (space.folder / "models/onnx").iterdir()} == {"native"}
    stages = yaml.safe_load(space.read("dvc.lock"))["stages"]
    assert not [name for name in stages if name.endswith("cpu-int4")]
    assert not list((space.folder / "results").rglob("cpu-int4*"))
    assert "up to date" in clean_clone(space, tmp_path).run("dvc", "status").stdout


def test_the_artifact_is_renamed_by_one_edit(finished, tmp_path):
    space = finished.copy(tmp_path / "space")
    profile = space.read("conf/profile/tiny.yaml")
    assert profile.count("ft-for-travel") == 1
    space.write("conf/profile/tiny.yaml", profile.replace("ft-for-travel", "guide"))
    space.run("python", "-m", "olivepress", "params")
    assert space.repro() == {"check-params", "register@cpu-int4"}
    assert json.loads(space.read("models/onnx/cpu-int4/manifest.json"))["name"] == "guide"
    space.commit("Another name")
    space.run("git", "tag", "-a", "guide@v0.1.0", "-m", "release")
    space.run("dvc", "artifacts", "get", ".", "guide", "--rev", "v0.1.0", "--out", tmp_path / "got")
    assert json.loads((tmp_path / "got/cpu-int4/manifest.json").read_text())["name"] == "guide"
    assert subprocess.run(["grep", "-rl", "ft-for-travel", tmp_path / "got"], check=False).returncode == 1


def test_after_a_stage_that_failed_its_results_are_stale(finished, tmp_path):
    space = finished.copy(tmp_path / "space")
    assert stale_stages(space.folder) == set()
    space.write("data/travel-tiny.jsonl", space.read("data/travel-tiny.jsonl") + '{"prompt": "broken"\n')
    assert space.run("dvc", "repro", check=False).returncode != 0
    of_travel = {f"{name}@travel-cpu-int4" for name in OF_TRAVEL}
    after = {"prepare@travel", "finetune@travel", "reference@travel", *of_travel, "gate@cpu-int4", "register@cpu-int4"}
    assert stale_stages(space.folder) == after
    assert json.loads(space.read("results/quality/evaluate/cpu-int4/travel.json"))["held_out"]["rows"] > 0
