"""The files that llama.cpp is given of a Phi-3 with random weights: every weight of the checkpoint, under its names."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks import libllama, models

pytestmark = pytest.mark.unit
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phi3") / "float"
    models.make_float("phi-3-tiny", folder)
    return folder


def test_every_weight_stands_in_the_model(checkpoint: Path, tmp_path: Path) -> None:
    libllama.write_phi3(checkpoint, tmp_path / "float.gguf")
    reader = gguf.GGUFReader(tmp_path / "float.gguf")
    config = json.loads((checkpoint / "config.json").read_text())
    weights = load_file(checkpoint / "model.safetensors")
    expected = {f"{name}.weight": weights[f"{module}.weight"] for name, module in OUTSIDE.items()}
    for layer in range(config["num_hidden_layers"]):
        for name, module in LAYER.items():
            expected[f"blk.{layer}.{name}.weight"] = weights[f"model.layers.{layer}.{module}.weight"]
    assert len(expected) == len(weights)
    found = {tensor.name: tensor.data for tensor in reader.tensors}
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == (np.float32 if array.ndim == 1 else np.float16)
    assert len(reader.fields["tokenizer.ggml.tokens"].contents()) == config["vocab_size"]
    assert reader.fields["phi3.attention.head_count"].contents() == config["num_attention_heads"]


def test_every_matrix_stands_in_the_adapter(checkpoint: Path, tmp_path: Path) -> None:
    models.make_adapter(checkpoint, tmp_path / "rank-8", 8)
    libllama.write_adapter(tmp_path / "rank-8", tmp_path / "8.gguf", "phi3")
    reader = gguf.GGUFReader(tmp_path / "8.gguf")
    weights = load_file(tmp_path / "rank-8/adapter_model.safetensors")
    expected = {}
    for name, array in weights.items():
        _, _, _, _, layer, *module, side, _ = name.split(".")
        inside = next(known for known, found in LAYER.items() if found == ".".join(module))
        expected[f"blk.{layer}.{inside}.weight.lora_{side[-1].lower()}"] = array.astype(np.float16)
    found = {tensor.name: tensor.data for tensor in reader.tensors}
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    assert reader.fields["general.architecture"].contents() == "phi3"
