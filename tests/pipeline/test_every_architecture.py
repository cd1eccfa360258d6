"""The table of docs/architectures.md: tiny random checkpoints, quantized, exported, compared by auto-opt's check.

Shapes and settings beyond the plain ones are a line each: windows, rotations in both spellings, tied and untied heads,
biases, head sizes, heads shared or not.
"""

import json
from typing import Any

import pytest
from exported import PROVIDER, exported, quantized

from olivepress.core.architectures import AWQ, WORKS, check_architecture
from olivepress.core.artifact import OPERATORS
from olivepress.export.check import check, onnx_graph
from olivepress.export.passes.decoder_layers import expand

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
FACTORS = {"short_factor": [1 + n / 50 for n in range(16)], "long_factor": [1 + n / 4 for n in range(16)]}
SLIDING = {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 1}
GEMMA = {"head_dim": 32, "sliding_window": 100, "query_pre_attn_scalar": 32}
# What a model of the architecture needs
PLAIN: dict[str, dict[str, Any]] = {
    "ernie4_5": {"head_dim": 32},
    "gemma": {"head_dim": 32},
    "gemma2": GEMMA,
    "gemma3_text": {**GEMMA, "num_hidden_layers": 7},
    "granite": {
        "embedding_multiplier": 3.0,
        "attention_multiplier": 0.1,
        "logits_scaling": 4.0,
        "residual_multiplier": 0.5,
    },
}
FURTHER: dict[str, tuple[str, dict[str, Any]]] = {
    "heads not shared": ("llama", {"num_key_value_heads": 4}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "heads of 48": ("llama", {"head_dim": 48}),
    "heads of 80": ("llama", {"head_dim": 80}),
    "gelu": ("llama", {"hidden_act": "gelu"}),
    "another theta": ("llama", {"rope_theta": 5e5}),
    "linear": ("llama", {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "linear, new spelling": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
    ),
    "dynamic": ("llama", {"rope_scaling": {"type": "dynamic", "factor": 4.0}}),
    "yarn": ("llama", {"rope_scaling": {**YARN, "type": "yarn"}}),
    "yarn, new spelling": ("llama", {"rope_parameters": {**YARN, "rope_theta": 5e5}}),
    "yarn, all keys": ("llama", {"rope_scaling": {**YARN, "beta_fast": 32, "beta_slow": 1, "mscale": 0.8}}),
    "llama3": ("llama", {"rope_scaling": LLAMA3, "rope_theta": 5e5}),
    "llama3, new spelling": ("llama", {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}}),
    "window": ("mistral", {"sliding_window": 100}),
    "short window": ("mistral", {"sliding_window": 40}),
    "window off": ("qwen2", {"use_sliding_window": False, "sliding_window": 100}),
    "windows by layer": ("qwen2", SLIDING),
    "windows by layer, tied": ("qwen3", {**SLIDING, "tie_word_embeddings": True}),
    "windows alone": ("gemma3_text", {**GEMMA, "num_hidden_layers": 2, "layer_types": ["sliding_attention"] * 2}),
    "window of a packed model": ("phi3", {"sliding_window": 100}),
    "part of a head": ("phi3", {"partial_rotary_factor": 0.5}),
    "long-RoPE": ("phi3", {"original_max_position_embeddings": 128, "rope_scaling": {"type": "longrope", **FACTORS}}),
    "long-RoPE, new spelling": (
        "phi3",
        {
            "original_max_position_embeddings": 128,
            "rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, **FACTORS},
        },
    ),
    "part of a Nemotron's head": ("nemotron", {"partial_rotary_factor": 0.5}),
    "layers without rotation": ("smollm3", {**SLIDING, "no_rope_layers": [1, 0]}),
}


def press(tmp_path, architecture: str, algorithm: str, settings: dict[str, Any]) -> dict[str, float]:
    """What auto-opt's check measures; fetch lets the configuration through."""
    checkpoint = quantized(tmp_path, architecture, algorithm, **settings)
    config = json.loads((tmp_path / "base/config.json").read_text(encoding="utf-8"))
    check_architecture(tmp_path / "base", config)
    return check(checkpoint, exported(checkpoint, tmp_path / "onnx"), PROVIDER)


@pytest.mark.parametrize("algorithm", ["awq", "rtn"])
@pytest.mark.parametrize("architecture", WORKS.values())
def test_the_graph_is_the_model(tmp_path, architecture, algorithm):
    if algorithm == "awq" and architecture not in AWQ:
        pytest.skip("AutoAWQ has no recipe for it")
    errors = press(tmp_path, architecture, algorithm, PLAIN.get(architecture, {}))
    assert errors["layers"] < 1e-4 and errors["logits"] < 0.06


@pytest.mark.parametrize("name", FURTHER)
def test_whatever_its_configuration_says(tmp_path, name):
    architecture, settings = FURTHER[name]
    errors = press(tmp_path, architecture, "rtn", settings)
    assert errors["layers"] < 1e-4 and errors["logits"] < 0.06


# What the native operators' attention has to do otherwise than in a plain model; those of the last are not its own.
CACHED = {
    **dict.fromkeys(
        ("heads not shared", "heads of 48", "heads of 80", "biases", "short window", "windows alone"), True
    ),
    **dict.fromkeys(("windows by layer, tied", "part of a head", "long-RoPE", "layers without rotation"), True),
    "gemma2": False,
}


@pytest.mark.parametrize(("name", "own"), CACHED.items())
def test_with_a_float16_cache(tmp_path, name, own):
    architecture, settings = FURTHER.get(name, (name, PLAIN.get(name, {})))
    checkpoint = quantized(tmp_path, architecture, **settings)
    folder = exported(checkpoint, tmp_path / "onnx", "float16")
    graph = onnx_graph(folder / OPERATORS)
    expand(graph)
    domains = {node.domain for node in graph.graph.node if node.op_type == "GroupQueryAttention"}
    assert domains == {"olivepress.cpu" if own else "com.microsoft"}
    errors = check(checkpoint, folder, PROVIDER)
    assert errors["layers"] < (1e-3 if own else 1e-4) and errors["logits"] < 0.06
