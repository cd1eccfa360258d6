"""A profile as `olivepress new` writes it, run whole: a GGUF file as the base, preferences as the data."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from environment import lend_environment
from gguf_files import write_gguf
from graph import ran
from ruamel.yaml import YAML
from tiny_models import make_checkpoint

from olivepress.tools.reproduce import clone

ROOT = Path(__file__).parents[2]
# Random weights say nothing, so amounts are small and thresholds let through.
FEW = {
    "quantize": {"samples": 4, "sequence_length": 64},
    "finetune": {"steps": 8, "eval_steps": 4, "batch_size": 4},
    # a token a byte
    "evaluate": {"held_out_rows": 4, "general_rows": 4, "generate_rows": 1, "answer_tokens": 4, "sequence_length": 512},
    "smoke_infer": {"max_new_tokens": 16},
    "thresholds": {"max_bytes": 10**7, "max_kl_divergence": 1, "min_same_top_token": 0, "min_relative_speed": 0},
}


@pytest.mark.slow
def test_preferences_on_a_gguf_file_go_through_to_card_and_page(tmp_path):
    folder = tmp_path / "clone"
    clone(ROOT, folder)
    lend_environment(folder)
    make_checkpoint("llama", tmp_path / "base")
    write_gguf(tmp_path / "base", folder / "data/tiny.gguf", quantized="Q4_1", licence="apache-2.0")
    rows = [json.loads(line) for line in (ROOT / "data/travel.jsonl").read_text(encoding="utf-8").splitlines()[:30]]
    pairs = [{"prompt": row["prompt"], "chosen": row["response"][:40], "rejected": "I am not sure."} for row in rows]
    (folder / "data/polite.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs), encoding="utf-8")

    def press(*words: str) -> str:
        command = [sys.executable, "-m", "olivepress", *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    def read(path: str) -> Any:
        return json.loads((folder / path).read_text(encoding="utf-8"))

    press("new", "own", "--model", "data/tiny.gguf", "--data", "data/polite.jsonl")
    path = folder / "conf/profile/own.yaml"
    settings = YAML().load(path)
    assert settings["adapters"]["polite"]["lora"]["method"] == "dpo"
    for section, values in FEW.items():
        settings[section].update(values)
    settings["adapters"]["polite"]["lora"]["learning_rate"] = 5e-2  # a few steps have to change an answer
    YAML().dump(settings, path)

    said = press("repro", "--profile", "own")
    assert "thresholds hold (cpu-int4)" in said
    trained = read("results/quality/finetune/polite.json")
    assert trained["preference_loss"]["before"] == pytest.approx(0.6931, abs=1e-4)
    assert trained["preference_loss"]["best"] <= trained["preference_loss"]["before"]
    # losses are those of the answers that are preferred, at every step
    losses = read("results/quality/evaluate/cpu-int4/polite.json")["held_out"]["loss"]
    exported = {f"{step}_{ending}" for step in ("quantized", "finetuned") for ending in ("onnx", "operators")}
    assert {*losses} == {"base", "quantized", "finetuned", *exported}
    assert read("results/samples/cpu-int4/polite.json")
    manifest = read("models/onnx/cpu-int4/manifest.json")
    assert (manifest["adapters"], manifest["licence"]) == (["polite"], "Apache-2.0")
    assert manifest["base"]["source"] == "data/tiny.gguf"
    card = (folder / "models/onnx/cpu-int4/README.md").read_text(encoding="utf-8")
    assert f"polite: {trained['train']['rows']} preferences (data/polite.jsonl)" in card
    page = (folder / "report/index.html").read_text(encoding="utf-8")
    assert "loss of preferences" in page and "nats a token" in page
    again = subprocess.run(["dvc", "repro"], cwd=folder, capture_output=True, text=True, check=False)
    assert not again.returncode and not ran(again.stdout)
