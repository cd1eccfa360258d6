"""Models that a stage cannot handle end in a short message, and leave earlier outputs alone."""

import json
import shutil
import struct
from pathlib import Path

import pytest
from in_process import run_stage

ROOT = Path(__file__).parents[1]
TINY = ROOT / "data/tiny-phi3"
CALIBRATION = ["--calibration-data", "data/calibration.jsonl", "--samples", "2", "--sequence-length", "32"]
STAGES = {
    "awq": ["quantize", "--base", "{}", *CALIBRATION, "--group-size", "128"],
    "rtn": ["quantize", "--base", "{}", *CALIBRATION, "--group-size", "128", "--algorithm", "rtn"],
    "auto-opt": ["auto_opt", "--model", "{}"],
    "prepare": ["prepare", "--model", "{}", "--data", "data/travel.jsonl"],
}


@pytest.fixture
def base(tmp_path):
    shutil.copytree(TINY, tmp_path / "base")
    return tmp_path / "base"


def configure(base: Path, **settings: object) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | settings))


def refusal(name: str, base: Path) -> str:
    """What the stage says of ``base``; it must fail without a traceback and touch nothing."""
    out = base.parent / "out"
    out.mkdir()
    (out / "earlier").write_text("kept")
    stage, *options = (option.format(base) for option in STAGES[name])
    places = ["--out", str(out), "--quality", str(base.parent / "quality.json")]
    done = run_stage(stage, *options, *places)
    assert done.exit_code == 1, done.stderr
    assert {path.name for path in base.parent.iterdir()} == {"base", "out"}
    assert [path.name for path in out.iterdir()] == ["earlier"]
    return done.stderr[done.stderr.index("Error: ") :]


@pytest.mark.parametrize("stage", ["awq", "rtn", "auto-opt"])
def test_an_unknown_architecture(base, stage):
    configure(base, model_type="weird", architectures=["WeirdForCausalLM"])
    assert f"{base / 'config.json'}: transformers" in (message := refusal(stage, base))
    assert "cannot read it: The checkpoint you are trying to load has model type `weird`" in message


def test_an_architecture_that_is_no_causal_language_model(base):
    configure(base, model_type="t5", architectures=["T5ForConditionalGeneration"])
    assert "config.json: 't5' is no causal language model." in refusal("rtn", base)


def test_an_architecture_that_awq_has_no_recipe_for(base):
    configure(base, model_type="gpt2", architectures=["GPT2LMHeadModel"])
    message = refusal("awq", base)
    assert "AutoAWQ has no recipe for model_type 'gpt2'. Use quantize.algorithm rtn, gptq or kquant." in message


def test_an_architecture_that_the_builder_does_not_know(base):
    configure(base, model_type="gpt2", architectures=["GPT2LMHeadModel"])
    assert "config.json: GPT2LMHeadModel cannot be pressed:" in refusal("auto-opt", base)


def test_a_model_that_wants_to_run_its_own_code(base):
    configure(base, model_type="other", auto_map={"AutoConfig": "configuration.Other"})
    assert "needs Python code of its publisher's" in refusal("rtn", base)


@pytest.mark.parametrize("stage", ["awq", "rtn"])
def test_a_group_size_that_does_not_divide_a_layer(base, stage):
    name = "model.layers.0.mlp.down_proj.weight"
    header = json.dumps({name: {"dtype": "F16", "shape": [64, 192], "data_offsets": [0, 64 * 192 * 2]}}).encode()
    (base / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64 * 192 * 2))
    message = refusal(stage, base)
    assert f"quantize.group_size: 128 does not divide {name}, which has 192 inputs" in message


def test_weights_for_which_there_is_no_scale(base):
    """All the same, and below what float16 can have fifteen steps of."""
    from safetensors.torch import load_file, save_file

    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"].fill_(1e-7)
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    assert f"{base}: rtn cannot quantize it: a layer has weights for which there is no scale" in refusal("rtn", base)


@pytest.mark.parametrize("stage", ["awq", "prepare"])
def test_a_broken_tokenizer(base, stage):
    (base / "tokenizer.json").write_text('{"version": "1.0"}')
    assert f"{base}: its tokenizer cannot be loaded: " in refusal(stage, base)
