"""The real pipeline in a temporary clone: what it makes, what reruns, what travels, what reproduces."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from graph import AFTER_TRAVEL, EVERYTHING, SCRIPTED

from olivepress.core.proof import LEVELS
from olivepress.core.tokenizer import load_tokenizer
from olivepress.evaluate.pytorch import TorchModel, TorchSettings
from olivepress.results.stale import stale_stages
from olivepress.runtime.graphs import SWITCH

ROOT = Path(__file__).parents[2]
# The README's blocks that need a finished pipeline, by the first word that tells them apart.
README_BLOCKS = re.findall(r"^```sh pipeline\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_first_run_runs_every_stage(finished):
    assert finished.ran == EVERYTHING


def test_no_stage_asks_the_network_for_anything(finished):
    """With everything but loopback refused (tests/no_network), which fetch of a folder does not need, either."""
    assert finished.asked == ""


def test_an_unchanged_pipeline_runs_nothing(workspace):
    assert workspace.repro() == set()


def test_the_readmes_two_commands(workspace):
    repro, test = next(block for block in README_BLOCKS if "make test" in block).splitlines()
    shown = workspace.run("bash", "-c", repro).stdout
    assert "thresholds hold" in shown
    assert re.findall(r"^\[\d+/(\d+)\] .*: unchanged$", shown, re.M) == [str(len(EVERYTHING))] * len(EVERYTHING)
    assert test in (ROOT / ".ci/run").read_text().splitlines(), "CI runs the second one, from a clean clone"


def answers(workspace, adapter: str) -> dict[str | None, dict[str, str]]:
    """What smoke-infer saw for an adapter: without it (None) and with it, prompt -> answer."""
    found: dict[str | None, dict[str, str]] = {}
    for entry in json.loads(workspace.read(f"results/answers/cpu-int4/{adapter}.json")):
        found.setdefault(entry["adapter"], {})[entry["prompt"]] = entry["text"]
    return found


def test_it_answers_and_the_adapters_speak_differently(workspace):
    travel, cooking = answers(workspace, "travel"), answers(workspace, "cooking")
    assert travel[None] == cooking[None]
    assert travel[None]["What is the capital of France?"] == "The capital of France is Paris."
    assert travel["travel"] != travel[None] != cooking["cooking"] != travel["travel"]
    for adapter in ("travel", "cooking"):
        counted = json.loads(workspace.read(f"results/quality/smoke-infer/cpu-int4/{adapter}.json"))
        assert counted["prompts"] == 3 and 0 < counted["changed"] <= 3


def test_in_pytorch_a_quantized_model_ends_its_answers_too(finished):
    """Its end-of-turn token is in generation_config.json alone; what an adapter answers is measured on such a model."""
    folder = finished.folder / "models"
    tokenizer = load_tokenizer(folder / "base", trust_remote_code=False)
    model = TorchModel(folder / "quantized", TorchSettings("float32", "cpu", False))
    samples = json.loads(finished.read("results/samples/cpu-int4/general.json"))
    talks = [[{"role": "user", "content": sample["prompt"]}] for sample in samples]
    prompts = [tokenizer.apply_chat_template(talk, add_generation_prompt=True)["input_ids"] for talk in talks]
    found = model.answers(prompts, 32, tokenizer, "answers")
    assert found and not any("\n" in answer for answer in found)


def test_fine_tuning_wins_and_the_export_loses_nothing(workspace):
    increases = []
    for adapter in ("travel", "cooking"):
        held_out = json.loads(workspace.read(f"results/quality/prepare/{adapter}.json"))["held_out"]["rows"]
        metrics = json.loads(workspace.read(f"results/quality/evaluate/cpu-int4/{adapter}.json"))
        assert metrics["held_out"]["rows"] == min(held_out, 64)
        loss = metrics["held_out"]["loss"]
        assert loss["finetuned"] < loss["quantized"] - 1
        assert abs(loss["finetuned_onnx"] - loss["finetuned"]) < 0.02
        increases.append(loss["quantized"] - loss["base"])
        for part in ("held_out", "general"):
            operators = {"quantized_operators", "finetuned_operators"}
            assert set(metrics[part]["kl_divergence"]) == {"quantized", "finetuned", *operators}
            by_onnx = {"quantized_onnx", "finetuned_onnx", *operators}
            assert set(metrics[part]["rouge_l"]) == {"base", "finetuned", *by_onnx}
    general = json.loads(workspace.read("results/quality/evaluate-base/cpu-int4.json"))["general"]["loss"]
    assert metrics["general"]["loss"]["quantized_onnx"] == general["quantized_onnx"], "measured once"
    assert general["quantized"] > general["base"], "quantization costs something where the base is at home"
    increases.append(general["quantized"] - general["base"])
    gate = json.loads(workspace.read("results/quality/gate/cpu-int4.json"))
    assert abs(gate["quantization_loss_increase"] - max(increases)) < 1e-3


def test_metrics_are_numbers(workspace):
    """DVC takes texts for metrics, too, and shows them in a column each: only what was proved is in words."""
    for path, entry in json.loads(workspace.run("dvc", "metrics", "show", "--json").stdout)[""]["data"].items():
        values = [entry["data"]]
        if path.startswith("results/quality/auto-opt/"):
            assert set(values[0].pop("proved").values()) <= LEVELS.keys()
        while values:
            value = values.pop()
            values += value.values() if isinstance(value, dict) else []
            assert isinstance(value, dict | int | float), f"{path}: {value}"


def test_the_manifest_names_every_file_with_its_hash(workspace):
    release = workspace.folder / "models/onnx/cpu-int4"
    manifest = json.loads((release / "manifest.json").read_text())
    files = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json", "README.md"}
    listed = "".join(f"{entry['sha256']}  {path}\n" for path, entry in manifest["files"].items())
    subprocess.run(["sha256sum", "--check", "--quiet"], input=listed, text=True, cwd=release, check=True)
    for path in ("data/travel-tiny.jsonl", "data/cooking-tiny.jsonl", "data/calibration.jsonl"):
        assert path in manifest["inputs_sha256"]


def test_outputs_hold_no_path_of_this_machine(finished):
    done = finished.run("grep", "-rlF", str(finished.folder), "models", "results/quality", "dvc.lock", check=False)
    assert done.stdout == ""


def test_metrics_and_plots_show(workspace):
    shown = json.loads(workspace.run("dvc", "metrics", "show", "--json").stdout)
    files = shown[""]["data"]
    assert "results/quality/evaluate/cpu-int4/travel.json" in files
    assert files["results/cost/quantize.json"]["data"]["seconds"] > 0
    workspace.run("dvc", "plots", "show", "--out", "plots")
    page = workspace.read("plots/index.html")
    assert all(
        f"results/plots/{name}" in page for name in ("training/travel", "steps/cpu-int4/travel", "size/cpu-int4")
    )
    shutil.rmtree(workspace.folder / "plots")


# a package is what a stage depends on
USE_DATA = {"reference-base", "prepare@travel", "prepare@cooking"}
USE_EXPORT = {"auto-opt@cpu-int4", "convert-adapter@travel-cpu-int4", "convert-adapter@cooking-cpu-int4"}


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("stages/quantize.py", {"quantize"}),
        ("stages/register.py", {"register@cpu-int4"}),
        ("olivepress/data/split.py", USE_DATA),
        ("olivepress/export/adapter.py", USE_EXPORT),
        ("olivepress/finetune/lora.py", {"finetune@travel", "finetune@cooking"}),
        ("olivepress/core/errors.py", SCRIPTED),
        ("README.md", set()),
        ("olivepress/tools/chat.py", set()),
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


@pytest.mark.parametrize(
    ("before", "after", "first", "later"),
    [
        (
            "the capital of France?",
            "the capital of Spain?",
            {"check-params", "smoke-infer@travel-cpu-int4", "smoke-infer@cooking-cpu-int4"},
            {"gate@cpu-int4", "register@cpu-int4"},
        ),
        (
            "min_finetuning_gain: 0.5",
            "min_finetuning_gain: 0.6",
            {"check-params", "gate@cpu-int4"},
            {"register@cpu-int4"},
        ),
    ],
)
def test_a_prompt_and_a_threshold_evaluate_nothing_again(workspace, before, after, first, later):
    text = workspace.read("params.yaml")
    try:
        workspace.write("params.yaml", text.replace(before, after))
        assert workspace.repro(*first) == first
        assert workspace.changed() == later
    finally:
        workspace.write("params.yaml", text)
        workspace.repro()


@pytest.mark.slow
def test_new_travel_data_reruns_that_adapter_and_pushes_little(workspace, tmp_path):
    remote = tmp_path / "remote"
    workspace.run("dvc", "remote", "add", "--local", "--default", "--force", "folder", str(remote))
    workspace.run("dvc", "push")
    full = bytes_in(remote)
    before = workspace.read("data/travel-tiny.jsonl")
    row = {"prompt": "is ghent worth a detour", "response": "Yes: its castle and canals fill a fine day by train."}
    try:
        workspace.write("data/travel-tiny.jsonl", before + json.dumps(row) + "\n")
        assert workspace.repro() == AFTER_TRAVEL
        workspace.run("dvc", "push")
        pushed = bytes_in(remote) - full
        print(f"full push {full:,} bytes, after the travel edit {pushed:,} bytes: {100 * pushed / full:.2f}%")
        assert 0 < pushed < 0.2 * full  # of so small a base; the adapter, and what it scores on its rows
    finally:
        workspace.write("data/travel-tiny.jsonl", before)
        workspace.repro()


def test_a_failing_stage_leaves_earlier_outputs_untouched(workspace):
    before = workspace.read("data/travel-tiny.jsonl")
    prepared = workspace.read("data/prepared/travel/train.jsonl")
    try:
        workspace.write("data/travel-tiny.jsonl", before + '{"prompt": "broken"\n')
        done = workspace.run("dvc", "repro", check=False)
        assert done.returncode != 0
        line = before.count("\n") + 1
        assert f"data/travel-tiny.jsonl:{line}: column 20: broken JSON" in done.stderr
        assert workspace.read("data/prepared/travel/train.jsonl") == prepared
    finally:
        workspace.write("data/travel-tiny.jsonl", before)
        assert workspace.repro() == set()


def test_a_missed_threshold_stops_register_and_keeps_the_metrics(workspace):
    before, lock = workspace.read("params.yaml"), workspace.read("dvc.lock")
    written = [f"results/quality/{place}/cpu-int4.json" for place in ("evaluate-base", "gate")]
    metrics = {path: workspace.read(path) for path in (*written, "results/quality/evaluate/cpu-int4/travel.json")}
    try:
        workspace.write("params.yaml", before.replace("min_finetuning_gain: 0.5", "min_finetuning_gain: 99"))
        done = workspace.run("dvc", "repro", check=False)
        assert done.returncode != 0
        assert "Running stage 'register@cpu-int4'" not in done.stdout
        metric = r"travel: loss\(quantized\) - loss\(finetuned\) is [^,]+, below min_finetuning_gain 99"
        assert re.search(metric, done.stderr)
        assert {path: workspace.read(path) for path in metrics} == metrics, "DVC deleted one: bring it back"
        # what lies there of the gate and after it is the run's before
        assert stale_stages(workspace.folder) == {"gate@cpu-int4", "register@cpu-int4"}
    finally:
        workspace.write("params.yaml", before)
        workspace.write("dvc.lock", lock)
    assert workspace.repro() == set()
    assert stale_stages(workspace.folder) == set()


@pytest.mark.slow
def test_verify_reproduces_everything_bit_for_bit_at_another_path(one_adapter, tmp_path):
    done = one_adapter.copy(tmp_path / "space").run("make", "verify")
    rows = re.findall(r"^(same|different|missing|new) ", done.stdout, re.M)
    assert len(rows) >= 20
    assert set(rows) == {"same"}
    assert f"{len(rows)} of {len(rows)} outputs reproduced bit for bit" in done.stdout


@pytest.mark.parametrize("adapter", ["none", "travel"])
def test_chat_answers_as_smoke_infer_did(workspace, adapter, monkeypatch):
    given = answers(workspace, "travel")[None if adapter == "none" else adapter]
    choice = [] if adapter == "none" else [f"ADAPTER={adapter}"]
    # the graph that smoke-infer's answers are of; the other rounds otherwise, and so may answer
    monkeypatch.setenv(SWITCH, "portable")
    done = workspace.run("make", "--silent", "chat", *choice, input="\n/reset\n".join(given) + "\n")
    for answer in given.values():
        assert answer.strip() in done.stdout


def test_inference_takes_no_more_threads_than_it_may(workspace):
    """On one processor neither runtime starts a second thread; each would, one for each core of the machine."""
    code = """if True:
        import os
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        import numpy
        from pathlib import Path
        from olivepress.runtime.genai import Model
        from olivepress.runtime.logits import OnnxLogits
        threads = len(os.listdir("/proc/self/task"))
        model = Path("models/onnx/cpu-int4/model")
        loaded = Model(model, {}, template="chat"), OnnxLogits(model, {}, "CPUExecutionProvider")
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


@pytest.mark.slow
def test_experiments_and_a_sweep_as_the_readme_has_them(one_adapter, tmp_path):
    space = one_adapter.copy(tmp_path / "space")
    commands = next(block for block in README_BLOCKS if "dvc exp run" in block).splitlines()
    run, queue, start, show = commands
    assert "Ran experiment" in space.run("bash", "-c", run).stdout
    queued = space.run("bash", "-c", queue).stdout
    assert queued.count("Queued experiment") == 2
    space.run("bash", "-c", start)
    while "Running" in (tasks := space.run("dvc", "queue", "status").stdout) or "Queued" in tasks:
        time.sleep(15)  # to ask costs seconds of a core, too
    assert tasks.count("Success") == 2, tasks
    rows = [line.split() for line in space.run("bash", "-c", show).stdout.splitlines()]
    algorithms_and_steps = sorted(tuple(row[2:4]) for row in rows if row and row[0] == "-")
    assert algorithms_and_steps == [("awq", "150"), ("awq", "30"), ("rtn", "150")]


def test_the_artifact_can_be_fetched_by_name(workspace, tmp_path):
    """The README's commands for sharing, from the remote to the artifact at a version."""
    workspace.commit("run")
    workspace.run("git", "tag", "-a", "ft-for-travel@v0.1.0", "-m", "release")  # GTO's versions are annotated
    block = next(block for block in README_BLOCKS if "dvc artifacts get" in block)
    for place, value in (
        ("remote add", "remote add --local --force"),
        ("/path/to/a/folder", str(tmp_path / "remote")),
        ("<repository>", "."),
        ("--out ft-for-travel", f"--out {tmp_path / 'got'}"),
    ):
        assert place in block
        block = block.replace(place, value)
    workspace.run("bash", "-euc", block)
    assert (tmp_path / "got/cpu-int4/model/model.onnx").is_file()
    assert (tmp_path / "got/cpu-int4/adapters/travel.onnx_adapter").is_file()
    assert "ft-for-travel" in (tmp_path / "got/cpu-int4/README.md").read_text()
