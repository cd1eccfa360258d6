"""The table of architectures: whole, as documented, and what fetch refuses by it."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from olivepress.core.architectures import AWQ, REFUSED, WORKS, check_architecture, refusal
from olivepress.core.errors import PressError
from olivepress.fetch.sources import fetch_checkpoint
from tools.architectures import PAGE, PLACE, table

ROOT = Path(__file__).parents[1]


def config(architecture: str = "LlamaForCausalLM", **settings) -> dict:
    shape = {"hidden_size": 128, "num_attention_heads": 4, "max_position_embeddings": 512, "hidden_act": "silu"}
    return {"architectures": [architecture], "model_type": WORKS.get(architecture, "other"), **shape, **settings}


def test_every_architecture_that_the_builder_names_is_in_the_table():
    source = Path(find_spec("onnxruntime_genai").origin).parent / "models/builder.py"
    named = set(re.findall(r'config\.architectures\[0\] == "(\w+)"', source.read_text(encoding="utf-8")))
    assert named == WORKS.keys() | REFUSED.keys()
    assert not WORKS.keys() & REFUSED.keys()
    assert set(AWQ) <= set(WORKS.values())


def test_the_page_has_the_table():
    assert PLACE.search(PAGE.read_text(encoding="utf-8"))[0] == table(), "run python -m tools.architectures"


@pytest.mark.parametrize("name", [*REFUSED, "GPT2LMHeadModel"])
def test_other_architectures_are_refused_by_name(name):
    with pytest.raises(PressError, match=rf"config.json: {name} cannot be pressed: .*LlamaForCausalLM"):
        check_architecture(Path("base"), config(name))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"head_dim": 24}, "heads have 24 values"),
        ({"num_attention_heads": 5, "hidden_size": 60}, "heads have 12 values"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}}, "of which 8 are rotated"),
        ({"partial_rotary_factor": 0.3}, "of which 9 are rotated"),
        ({"partial_rotary_factor": 0.01}, "of which 0 are rotated"),
        ({"rope_theta": 5e5, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "Take out one"),
        ({"layer_types": ["sliding_attention"], "sliding_window": None}, "but sliding_window is None"),
        ({"rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}}, "Phi3ForCausalLM alone"),
        ({"rope_scaling": {"rope_type": "spiral"}}, "'spiral'"),
        ({"rope_parameters": {"full_attention": {"rope_type": "spiral"}}}, "'spiral'"),
        ({"hidden_act": "tanh"}, "hidden_act is 'tanh'"),
        ({"clip_qkv": 8.0}, "clip_qkv is 8.0"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "layer_types has ['linear_attention']"),
        ({"partial_rotary_factor": 0.5}, "the heads of a LlamaForCausalLM are rotated whole"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2, "partial_rotary_factor": 0.5}}, "rotated whole"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is set"),
        ({"architectures": ["NemotronForCausalLM"], "model_type": "nemotron", "mlp_bias": True}, "mlp_bias is set"),
        ({"model_type": "phi3"}, "architectures is LlamaForCausalLM and model_type 'phi3', expected 'llama'"),
        ({"sliding_window": 20}, "sliding_window is 20, but a LlamaForCausalLM has no windows"),
        ({"sliding_window": 0}, "Set it to null"),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 0}, "sliding_window is 0, so that no token"),
        ({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 0, "use_sliding_window": True}, "no token"),
        (
            {"architectures": ["Phi3ForCausalLM"], "original_max_position_embeddings": 64},
            "max_position_embeddings is 512 and original_max_position_embeddings 64",
        ),
    ],
)
def test_values_that_the_builder_gets_wrong_are_refused(settings, said):
    assert said in refusal({**config(), **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rope_scaling": {"type": "yarn", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
        {"partial_rotary_factor": 1},
        {"architectures": ["NemotronForCausalLM"], "model_type": "nemotron", "partial_rotary_factor": 0.5},
        {"head_dim": 80},
        {"sliding_window": None},
        {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 1},
        {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "sliding_window": 0},
        {"rope_scaling": None},
    ],
)
def test_the_rest_is_let_through(settings):
    assert refusal({**config(), **settings}) is None


def test_fetch_refuses(tmp_path):
    """Before quantize and finetune."""
    source = tmp_path / "source"
    source.mkdir()
    for path in (ROOT / "data/tiny-phi3").iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
    settings["architectures"] = ["PhiForCausalLM"]
    (source / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(PressError, match="PhiForCausalLM cannot be pressed"):
        fetch_checkpoint(str(source), tmp_path / "base", trust_remote_code=False)
