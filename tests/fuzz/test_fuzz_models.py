"""What comes from elsewhere with a model: configurations, headers of weights, adapters; taken or refused by name."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import as_json, damaged, spoilt
from safetensors.numpy import save

from olivepress.core import checkpoint
from olivepress.core.json_file import load_object
from olivepress.core.remote_code import remove_remote_code
from olivepress.export.peft_adapter import read_peft
from olivepress.fetch.config_values import check_config, check_generation

TINY = Path(__file__).parents[2] / "data/tiny-phi3"


def config(name: str) -> dict:
    return json.loads((TINY / name).read_text(encoding="utf-8"))


# ---- weights

HEADER = {
    "__metadata__": {"format": "pt"},
    "a.weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
    "b.weight": {"dtype": "F32", "shape": [], "data_offsets": [12, 16]},
    "c.weight": {"dtype": "I8", "shape": [0, 5], "data_offsets": [16, 16]},
}


def as_weights(documents: st.SearchStrategy) -> st.SearchStrategy[bytes]:
    """safetensors files: the header's length, the header, the data."""

    def whole(header: bytes, length: int | None) -> bytes:
        return struct.pack("<Q", len(header) if length is None else length % 2**64) + header + bytes(16)

    lengths = st.none() | st.none() | st.sampled_from([0, 1, 2**24, 12 * 2**30, 2**63, -1]) | st.integers(0, 400)
    return st.builds(whole, as_json(documents), lengths)


@pytest.fixture(scope="module")
def model(place) -> Path:
    folder = place / "model"
    shutil.copytree(TINY, folder)
    return folder


@given(content=spoilt(st.just(HEADER), as_weights), entry=st.sampled_from(["check", "parameters", "weight_bytes"]))
def test_headers_of_weights_are_read_or_refused(content, entry, model, answered):
    (model / checkpoint.INDEX).unlink(missing_ok=True)
    (model / "model.safetensors").write_bytes(content)
    answered(getattr(checkpoint, entry), model)


INDEX = {"metadata": {"total_size": 1}, "weight_map": {"a.weight": "model.safetensors", "b": "model.safetensors"}}


@given(content=spoilt(st.just(INDEX)))
def test_indexes_of_weights_are_read_or_refused(content, model, answered):
    (model / "model.safetensors").write_bytes(save({"a.weight": np.zeros(2, np.float32)}))
    (model / checkpoint.INDEX).write_bytes(content)
    answered(checkpoint.tensors, model)


@given(content=spoilt(st.sampled_from([config("config.json")])))
def test_configurations_are_read_or_refused(content, model, answered):
    (model / "config.json").write_bytes(content)
    found = answered(checkpoint.read_config, model)
    if isinstance(found, dict):
        answered(check_config, model / "config.json", found)
    answered(remove_remote_code, model)


@given(content=spoilt(st.just(config("generation_config.json"))))
def test_generation_settings_are_read_or_refused(content, model, answered):
    path = model / "generation_config.json"
    path.write_bytes(content)
    found = answered(load_object, path)
    if isinstance(found, dict):
        answered(check_generation, path, found)


# ---- adapters

ADAPTER = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "use_dora": False, "use_rslora": False,
    "target_modules": ["q_proj", "o_proj"], "alpha_pattern": {"q_proj": 4}, "rank_pattern": {}, "fan_in_fan_out": False,
    "task_type": "CAUSAL_LM", "base_model_name_or_path": "x", "init_lora_weights": True, "modules_to_save": None,
    "layers_to_transform": None, "alora_invocation_tokens": None, "lora_dropout": 0.0, "inference_mode": True,
}  # fmt: skip
PREFIX = "base_model.model.model.layers.0.self_attn"
MATRICES = {
    f"{PREFIX}.{module}.lora_{side}.weight": np.ones(shape, np.float32)
    for module in ("q_proj", "o_proj")
    for side, shape in (("A", (2, 6)), ("B", (4, 2)))
}
LORA = {
    name: {"dtype": "F32", "shape": list(matrix.shape), "data_offsets": [48 * place, 48 * place + matrix.nbytes]}
    for place, (name, matrix) in enumerate(MATRICES.items())
}


@given(content=spoilt(st.just(ADAPTER)))
def test_configurations_of_adapters_are_read_or_refused(content, place, answered):
    (place / "adapter_config.json").write_bytes(content)
    (place / "adapter_model.safetensors").write_bytes(save(MATRICES))
    answered(read_peft, place)


@given(content=damaged(st.just(save(MATRICES))) | spoilt(st.just(LORA), as_weights))
def test_weights_of_adapters_are_read_or_refused(content, place, answered):
    (place / "adapter_config.json").write_text(json.dumps(ADAPTER), encoding="utf-8")
    (place / "adapter_model.safetensors").write_bytes(content)
    answered(read_peft, place)
