"""The real pipeline in a temporary clone: what it makes, what reruns, what travels, what reproduces."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from olivepress.verify import compare

EVERYTHING = {
    "fetch",
    "prepare@travel",
    "prepare@cooking",
    "quantize",
    "finetune@travel",
    "finetune@cooking",
    "auto-opt@cpu-int4",
    "convert-adapter@travel-cpu-int4",
    "convert-adapter@cooking-cpu-int4",
    "smoke-infer@cpu-int4",
    "evaluate@cpu-int4",
    "register@cpu-int4",
}
AFTER_TRAVEL = {name for name in EVERYTHING if "travel" in name} | {
    "smoke-infer@cpu-int4",
    "evaluate@cpu-int4",
    "register@cpu-int4",
}


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_first_run_runs_every_stage(workspace):
    assert workspace.ran == EVERYTHING


def test_an_unchanged_pipeline_runs_nothing(workspace):
    assert workspace.repro() == set()


def test_it_answers_and_the_adapters_speak_differently(workspace):
    answers = json.loads(workspace.read("results/quality/smoke-infer/cpu-int4.json"))
    assert answers["none"]["What is the capital of France?"]["text"] == "The capital of France is Paris."
    assert answers["travel"] != answers["none"] != answers["cooking"] != answers["travel"]


def test_fine_tuning_wins_and_the_export_loses_nothing(workspace):
    figures = json.loads(workspace.read("results/quality/evaluate/cpu-int4.json"))
    for adapter in ("travel", "cooking"):
        loss = figures["loss"][adapter]
        assert loss["finetuned"] < loss["quantized"] - 1
        assert abs(loss["finetuned_onnx"] - loss["finetuned"]) < 0.02
    general = figures["loss"]["general"]
    assert general["quantized"] > general["base"], "quantization costs something where the base is at home"


def test_the_manifest_names_every_file_with_its_hash(workspace):
    release = workspace.folder / "models/onnx/cpu-int4"
    manifest = json.loads((release / "manifest.json").read_text())
    files = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json", "README.md"}
    listed = "".join(f"{entry['sha256']}  {path}\n" for path, entry in manifest["files"].items())
    subprocess.run(["sha256sum", "--check", "--quiet"], input=listed, text=True, cwd=release, check=True)
    for path in ("data/travel.jsonl", "data/cooking.jsonl", "data/calibration.jsonl"):
        assert path in manifest["inputs_sha256"]


def test_outputs_hold_no_path_of_this_machine(workspace):
    done = workspace.run("grep", "-rlF", str(workspace.folder), "models", "results/quality", "dvc.lock", check=False)
    assert done.stdout == ""


def test_metrics_and_plots_show(workspace):
    shown = json.loads(workspace.run("dvc", "metrics", "show", "--json").stdout)
    files = shown[""]["data"]
    assert "results/quality/evaluate/cpu-int4.json" in files
    assert files["results/cost/quantize.json"]["data"]["seconds"] > 0
    workspace.run("dvc", "plots", "show", "--out", "plots")
    page = workspace.read("plots/index.html")
    assert "training-loss" in page and "held-out-loss" in page
    shutil.rmtree(workspace.folder / "plots")


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("stages/quantize.py", {"quantize"}),
        ("stages/register.py", {"register@cpu-int4"}),
        ("olivepress/calibration.py", {"quantize"}),
        ("olivepress/onnx_adapter.py", {"convert-adapter@travel-cpu-int4", "convert-adapter@cooking-cpu-int4"}),
        ("olivepress/lora.py", {"finetune@travel", "finetune@cooking"}),
        ("olivepress/errors.py", EVERYTHING),
        ("README.md", set()),
        ("olivepress/chat.py", set()),
        ("tests/conftest.py", set()),
    ],
)
def test_a_code_change_touches_exactly_the_stages_that_use_it(workspace, path, stages):
    before = workspace.read(path)
    try:
        workspace.write(path, before + "\n# changed\n")
        assert workspace.changed() == stages
    finally:
        workspace.write(path, before)


def test_a_smoke_prompt_reruns_smoke_infer_onwards(workspace):
    before = workspace.read("params.yaml")
    try:
        workspace.write("params.yaml", before.replace("the capital of France?", "the capital of Spain?"))
        assert workspace.repro() == {"smoke-infer@cpu-int4", "evaluate@cpu-int4", "register@cpu-int4"}
    finally:
        workspace.write("params.yaml", before)
        workspace.repro()


def test_new_travel_data_reruns_that_adapter_and_pushes_little(workspace, tmp_path):
    remote = tmp_path / "remote"
    workspace.run("dvc", "remote", "add", "--local", "--default", "--force", "folder", str(remote))
    workspace.run("dvc", "push")
    full = bytes_in(remote)
    before = workspace.read("data/travel.jsonl")
    row = {"prompt": "is ghent worth a detour", "response": "Yes: its castle and canals fill a fine day by train."}
    try:
        workspace.write("data/travel.jsonl", before + json.dumps(row) + "\n")
        assert workspace.repro() == AFTER_TRAVEL
        workspace.run("dvc", "push")
        pushed = bytes_in(remote) - full
        print(f"full push {full:,} bytes, after the travel edit {pushed:,} bytes: {100 * pushed / full:.2f}%")
        assert 0 < pushed < 0.02 * full
    finally:
        workspace.write("data/travel.jsonl", before)
        workspace.repro()


def test_a_failing_stage_leaves_earlier_outputs_untouched(workspace):
    before = workspace.read("data/travel.jsonl")
    prepared = workspace.read("data/prepared/travel/train.jsonl")
    try:
        workspace.write("data/travel.jsonl", before + '{"prompt": "broken"\n')
        done = workspace.run("dvc", "repro", check=False)
        assert done.returncode != 0
        line = before.count("\n") + 1
        assert f"data/travel.jsonl:{line}: column 20: broken JSON" in done.stderr
        assert workspace.read("data/prepared/travel/train.jsonl") == prepared
    finally:
        workspace.write("data/travel.jsonl", before)
        assert workspace.repro() == set()


def test_a_missed_bound_fails_and_names_figure_and_bound(workspace):
    before = workspace.read("params.yaml")
    lock = workspace.read("dvc.lock")
    try:
        workspace.write("params.yaml", before.replace("min_finetuning_gain: 0.5", "min_finetuning_gain: 99"))
        done = workspace.run("dvc", "repro", check=False)
        assert done.returncode != 0
        figure = r"travel: loss\(quantized\) - loss\(finetuned\) is [\d.]+, below min_finetuning_gain 99"
        assert re.search(figure, done.stderr)
    finally:
        workspace.write("params.yaml", before)
        workspace.write("dvc.lock", lock)
    assert workspace.repro() == set()


def test_everything_reproduces_bit_for_bit_at_another_path(workspace, tmp_path):
    other = type(workspace)(tmp_path / "elsewhere" / "clone")
    other.folder.parent.mkdir()
    workspace.run("git", "clone", "-q", ".", str(other.folder))
    for path in workspace.run("git", "ls-files").stdout.splitlines():
        (other.folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(workspace.folder / path, other.folder / path)
    assert other.repro("--force", "--no-run-cache") == EVERYTHING
    rows = compare(yaml.safe_load(workspace.read("dvc.lock")), yaml.safe_load(other.read("dvc.lock")))
    assert [row for row in rows if row[0] != "same"] == []
    assert len(rows) >= 25


def test_the_artifact_can_be_fetched_by_name(workspace, tmp_path):
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    workspace.run("git", "add", "--all")
    workspace.run("git", *who, "commit", "-q", "--allow-empty", "-m", "run")
    workspace.run("git", *who, "tag", "-a", "ft-for-travel@v0.1.0", "-m", "release")  # GTO's versions are annotated
    workspace.run("dvc", "artifacts", "get", ".", "ft-for-travel", "--out", str(tmp_path / "got"))
    assert (tmp_path / "got/model/model.onnx").is_file()
    assert (tmp_path / "got/adapters/travel.onnx_adapter").is_file()
    assert "ft-for-travel" in (tmp_path / "got/README.md").read_text()
