"""The real pipeline in a temporary clone: what it makes, what reruns, what travels, what reproduces."""

import hashlib
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from graph import AFTER_TRAVEL, EVERYTHING

from olivepress.lora_operator import BUILD, LIBRARY

ROOT = Path(__file__).parents[2]
# The README's blocks that need a finished pipeline, by the first word that tells them apart.
README_BLOCKS = re.findall(r"^```sh pipeline\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_first_run_runs_every_stage(workspace):
    assert workspace.ran == EVERYTHING


def test_an_unchanged_pipeline_runs_nothing(workspace):
    assert workspace.repro() == set()


def test_the_readmes_two_commands(workspace):
    repro, test = next(block for block in README_BLOCKS if "make test" in block).splitlines()
    assert "Data and pipelines are up to date." in workspace.run("bash", "-c", repro).stdout
    assert test in (ROOT / ".ci/run").read_text().splitlines(), "CI runs the second one, from a clean clone"


def test_it_answers_and_the_adapters_speak_differently(workspace):
    answers = json.loads(workspace.read("results/quality/smoke-infer/cpu-int4.json"))
    assert answers["none"]["What is the capital of France?"]["text"] == "The capital of France is Paris."
    assert answers["travel"] != answers["none"] != answers["cooking"] != answers["travel"]


def test_fine_tuning_wins_and_the_export_loses_nothing(workspace):
    figures = json.loads(workspace.read("results/quality/evaluate/cpu-int4.json"))
    for adapter in ("travel", "cooking"):
        held_out = json.loads(workspace.read(f"results/quality/prepare/{adapter}.json"))["held_out"]["rows"]
        assert figures["rows"][adapter] == held_out
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


def test_a_target_with_native_operators_and_a_bound_on_what_is_evaluated(workspace):
    """Exported, answered, evaluated and registered with the library, whose hash and nature the release tells."""
    before = workspace.read("params.yaml")
    workspace.environment["OLIVEPRESS_LORA_OPERATOR"] = str(BUILD)  # a clone has none of its own
    try:
        changed = before.replace("lm_head: int8", "lm_head: int8\n    lora_operator: true")
        workspace.write("params.yaml", changed.replace("max_rows: 1000", "max_rows: 20"))
        assert {"auto-opt@cpu-int4", "convert-adapter@travel-cpu-int4", "register@cpu-int4"} <= workspace.repro()
        figures = json.loads(workspace.read("results/quality/evaluate/cpu-int4.json"))
        assert figures["rows"] == {"travel": 20, "cooking": 20, "general": 20}
        release = workspace.folder / "models/onnx/cpu-int4"
        digest = json.loads((release / "manifest.json").read_text())["files"][f"model/{LIBRARY}"]["sha256"]
        assert digest == hashlib.sha256((BUILD / LIBRARY).read_bytes()).hexdigest()
        assert f"`model/{LIBRARY}` is native code" in (release / "README.md").read_text()
    finally:
        workspace.write("params.yaml", before)
        workspace.repro()
    assert "native code" not in (release / "README.md").read_text()


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
    figures = workspace.read("results/quality/evaluate/cpu-int4.json")
    try:
        workspace.write("params.yaml", before.replace("min_finetuning_gain: 0.5", "min_finetuning_gain: 99"))
        done = workspace.run("dvc", "repro", check=False)
        assert done.returncode != 0
        assert workspace.read("results/quality/evaluate/cpu-int4.json") == figures, "DVC deleted it: bring it back"
        figure = r"travel: loss\(quantized\) - loss\(finetuned\) is [\d.]+, below min_finetuning_gain 99"
        assert re.search(figure, done.stderr)
    finally:
        workspace.write("params.yaml", before)
        workspace.write("dvc.lock", lock)
    assert workspace.repro() == set()


def test_verify_reproduces_everything_bit_for_bit_at_another_path(workspace):
    done = workspace.run("make", "verify")
    rows = re.findall(r"^(same|different|missing|new) ", done.stdout, re.M)
    assert len(rows) >= 25
    assert set(rows) == {"same"}
    assert f"{len(rows)} of {len(rows)} outputs reproduced bit for bit" in done.stdout


@pytest.mark.parametrize("adapter", ["none", "travel"])
def test_chat_answers_as_smoke_infer_did(workspace, adapter):
    answers = json.loads(workspace.read("results/quality/smoke-infer/cpu-int4.json"))[adapter]
    choice = [] if adapter == "none" else [f"ADAPTER={adapter}"]
    done = workspace.run("make", "--silent", "chat", *choice, input="\n".join(answers) + "\n")
    for answer in answers.values():
        assert answer["text"].strip() in done.stdout


def test_inference_takes_no_more_threads_than_it_may(workspace):
    """On one processor neither runtime starts a second thread; each would, one for each core of the machine."""
    code = """if True:
        import os
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        import numpy
        from pathlib import Path
        from olivepress.generation import Chatbot
        from olivepress.onnx_logits import OnnxLogits
        threads = len(os.listdir("/proc/self/task"))
        model = Path("models/onnx/cpu-int4/model")
        loaded = Chatbot(model, {}, template="chat"), OnnxLogits(model, {}, "CPUExecutionProvider")
        print(len(os.listdir("/proc/self/task")) - threads)
    """
    assert workspace.run("python", "-c", code).stdout == "0\n"


def test_chat_with_an_unknown_adapter_names_those_that_are_there(workspace):
    done = workspace.run("make", "--silent", "chat", "ADAPTER=skiing", input="", check=False)
    assert done.returncode != 0
    assert "no adapter 'skiing' (there: cooking, travel)." in done.stderr


def test_the_profile_option_writes_params(workspace):
    before = workspace.read("params.yaml")
    try:
        workspace.run("make", "params", "PROFILE=phi-3.5-mini")
        assert "hf://microsoft/Phi-3.5-mini-instruct@" in workspace.read("params.yaml")
        assert {"fetch", "quantize"} <= workspace.changed()
    finally:
        workspace.write("params.yaml", before)


@pytest.mark.timeout(600)
def test_experiments_and_a_sweep_as_the_readme_has_them(workspace):
    commands = next(block for block in README_BLOCKS if "dvc exp run" in block).splitlines()
    run, queue, start, show = commands
    workspace.commit("before the experiments")
    assert "Ran experiment" in workspace.run("bash", "-c", run).stdout
    queued = workspace.run("bash", "-c", queue).stdout
    assert queued.count("Queued experiment") == 2
    workspace.run("bash", "-c", start)
    while "Running" in (tasks := workspace.run("dvc", "queue", "status").stdout) or "Queued" in tasks:
        time.sleep(2)
    assert tasks.count("Success") == 2, tasks
    shown = json.loads(workspace.run("bash", "-c", f"{show} --json").stdout)
    experiments = [entry for row in shown for entry in row["experiments"] or []]
    revisions = [entry["revs"][0]["data"] for entry in experiments]
    algorithms = [revision["params"]["params.yaml"]["data"]["quantize"]["algorithm"] for revision in revisions]
    assert sorted(algorithms) == ["awq", "awq", "rtn"]
    workspace.run("git", "checkout", "-q", "--", ".")
    workspace.run("dvc", "checkout", "-q")


def test_the_artifact_can_be_fetched_by_name(workspace, tmp_path):
    """The README's commands for sharing, from the remote to the artifact at a version."""
    workspace.commit("run")
    workspace.run("git", "tag", "-a", "ft-for-travel@v0.1.0", "-m", "release")  # GTO's versions are annotated
    block = next(block for block in README_BLOCKS if "dvc artifacts get" in block)
    for place, value in (
        ("remote add", "remote add --local --force"),
        ("/path/to/a/folder", str(tmp_path / "remote")),
        ("<repository>", "."),
        ("v0.1.0", f"v0.1.0 --out {tmp_path / 'got'}"),
    ):
        assert place in block
        block = block.replace(place, value)
    workspace.run("bash", "-euc", block)
    assert (tmp_path / "got/model/model.onnx").is_file()
    assert (tmp_path / "got/adapters/travel.onnx_adapter").is_file()
    assert "ft-for-travel" in (tmp_path / "got/README.md").read_text()
