"""config.json's values: what no model can have is refused by key, what models have is let through."""

import json
import shutil
from pathlib import Path

import pytest
import transformers

from olivepress.core.errors import PressError
from olivepress.fetch.config_values import check_config
from olivepress.fetch.sources import fetch_checkpoint

ROOT = Path(__file__).parents[2]
TINY = ROOT / "data/tiny-phi3"
ARCHITECTURES = ("llama", "mistral", "phi3", "phi", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "granite")
ARCHITECTURES += ("olmo", "olmo2", "smollm3", "cohere", "nemotron", "gpt2", "mixtral", "qwen2_moe", "gemma3", "mpt")
# key, value, what the message says of it
WRONG = [
    ("hidden_size", 0, "hidden_size is 0, expected a whole number from 1 to"),
    ("hidden_size", -256, "hidden_size is -256"),
    ("hidden_size", "256", "hidden_size is '256'"),
    ("hidden_size", 256.0, "hidden_size is 256.0"),
    ("hidden_size", True, "hidden_size is True"),
    ("hidden_size", [256, 256, 256, 256], "hidden_size is [256,"),
    ("hidden_size", 10**30, f"hidden_size is {10**30}"),
    ("intermediate_size", 0, "intermediate_size is 0"),
    ("num_hidden_layers", 1_000_000, "num_hidden_layers is 1000000, expected a whole number from 1 to 1,000"),
    ("num_hidden_layers", 0, "num_hidden_layers is 0"),
    ("num_hidden_layers", {}, "num_hidden_layers is {}"),
    ("num_attention_heads", 7, "num_attention_heads is 7, expected a divisor of hidden_size 256"),
    ("num_attention_heads", 0, "num_attention_heads is 0"),
    ("num_key_value_heads", 3, "num_key_value_heads is 3, expected a divisor of num_attention_heads 8"),
    ("num_key_value_heads", -1, "num_key_value_heads is -1"),
    ("head_dim", 0, "head_dim is 0"),
    ("vocab_size", 2**40, f"vocab_size is {2**40}"),
    ("vocab_size", 0, "vocab_size is 0"),
    ("max_position_embeddings", 1, "max_position_embeddings is 1, expected a whole number from 8"),
    ("max_position_embeddings", "many", "max_position_embeddings is 'many'"),
    ("max_position_embeddings", 2**60, f"max_position_embeddings is {2**60}"),
    ("sliding_window", -5, "sliding_window is -5"),
    ("rms_norm_eps", "small", "rms_norm_eps is 'small', expected a number above 0"),
    ("rms_norm_eps", 0, "rms_norm_eps is 0"),
    ("rms_norm_eps", -1e-5, "rms_norm_eps is -1e-05"),
    ("attention_dropout", 2, "attention_dropout is 2, expected a number from 0 to 1"),
    ("tie_word_embeddings", "no", "tie_word_embeddings is 'no', expected true or false"),
    ("hidden_act", 5, "hidden_act is 5, expected the name of an activation"),
    ("hidden_act", "silu; import os", "hidden_act is 'silu; import os'"),
    ("dtype", "float8", "dtype is 'float8', expected one of float16"),
    ("torch_dtype", ["float16"], "torch_dtype is ['float16']"),
    ("eos_token_id", 4096, "eos_token_id is 4096, expected ids below vocab_size 2048"),
    ("eos_token_id", [0, "4"], "eos_token_id is [0, '4'], expected a token's id"),
    ("eos_token_id", -7, "eos_token_id is -7"),
    ("pad_token_id", 2048, "pad_token_id is 2048"),
    ("bos_token_id", 2048, "bos_token_id is 2048, expected ids below vocab_size 2048"),
    ("of_my_own", dict.fromkeys(map(str, range(70_000)), 1), "of_my_own is '70,000 keys', expected at most 65,536"),
    ("pad_token_id", "<pad>", "pad_token_id is '<pad>'"),
    ("rope_parameters", [1], "rope_parameters is [1], expected an object"),
    ("rope_parameters", {"rope_type": 3}, "rope_parameters.rope_type is 3"),
    ("rope_parameters", {"rope_type": "default", "rope_theta": -1}, "rope_parameters.rope_theta is -1"),
    ("rope_parameters", {"rope_type": "default", "partial_rotary_factor": 7}, "partial_rotary_factor is 7"),
    ("rope_parameters", {"rope_type": "linear", "factor": "two"}, "rope_parameters.factor is 'two'"),
    ("rope_scaling", {"type": "longrope", "short_factor": [1, "x"], "long_factor": [1]}, "rope_scaling.short_factor"),
    ("layer_types", ["full_attention"] * 3, "layer_types is 'a list of 3', expected a type for each of"),
    ("layer_types", "full_attention", "layer_types is 'full_attention'"),
    ("architectures", [["Phi3ForCausalLM"]], "architectures is [['Phi3ForCausalLM']]"),
    ("architectures", "Phi3ForCausalLM", "architectures is 'Phi3ForCausalLM'"),
    ("model_type", "../phi3", "model_type is '../phi3', expected the name of an architecture"),
    ("model_type", 3, "model_type is 3"),
    ("text_config", {"hidden_size": 0}, "text_config.hidden_size is 0"),
    ("num_labels", 10**9, "num_labels is 1000000000, expected a whole number from 0 to 65,536"),
    ("text_config", {"num_labels": 10**9}, "text_config.num_labels is 1000000000"),
    ("is_encoder_decoder", True, "is_encoder_decoder is True, expected false"),
    ("output_attentions", True, "output_attentions is True, expected false"),
    ("output_hidden_states", "x", "output_hidden_states is 'x', expected false"),
    ("return_dict", False, "return_dict is False, expected true"),
    ("pruned_heads", {"0": [1]}, "pruned_heads is {'0': [1]}, expected an empty object"),
    ("temperature", "hot", "temperature is 'hot', expected a number from 0"),
    ("max_length", -1, "max_length is -1"),
    ("anything", {"deep": {"num_attention_heads": "eight"}}, "anything.deep.num_attention_heads is 'eight'"),
]


def config() -> dict[str, object]:
    return json.loads((TINY / "config.json").read_text())


@pytest.mark.parametrize(("key", "value", "expected"), WRONG)
def test_a_value_that_no_model_can_have_is_refused_by_key(key, value, expected):
    with pytest.raises(PressError) as caught:
        check_config(Path("config.json"), config() | {key: value})
    assert caught.value.message.startswith("config.json: ")
    assert expected in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
@pytest.mark.parametrize("key", ["rms_norm_eps", "initializer_range", "of_my_own"])
def test_a_number_that_is_none_is_refused_by_fetch(tmp_path, key, number):
    folder = shutil.copytree(TINY, tmp_path / "base")
    text = (folder / "config.json").read_text().rstrip().removesuffix("}")
    text = text.replace('"rms_norm_eps": 1e-05,', "").replace('"initializer_range": 0.02,', "")
    (folder / "config.json").write_text(f'{text}, "{key}": {number}}}')
    with pytest.raises(PressError, match=r"config\.json: ") as caught:
        fetch_checkpoint(str(folder), tmp_path / "out", trust_remote_code=False)
    assert key in caught.value.message or "not valid JSON" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        '"text"',
        "{",
        "\xff",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"model_type": "phi3", "model_type": "x"}',
    ],
)
def test_what_is_no_configuration_is_refused_by_fetch(tmp_path, text):
    folder = shutil.copytree(TINY, tmp_path / "base")
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(PressError, match=r"config\.json: ") as caught:
        fetch_checkpoint(str(folder), tmp_path / "out", trust_remote_code=False)
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_configurations_as_transformers_writes_them_are_taken(architecture):
    written = json.loads(transformers.CONFIG_MAPPING[architecture]().to_json_string(use_diff=False))
    check_config(Path("config.json"), written | {"architectures": ["AnyForCausalLM"]})


@pytest.mark.parametrize("path", sorted((ROOT / "tools/random-configs").glob("*.json")), ids=lambda path: path.stem)
def test_configurations_of_published_models_are_taken(path):
    check_config(path, json.loads(path.read_text()))
