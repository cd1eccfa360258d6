"""A base's weights against its configuration: whatever differs is refused by the name of the tensor."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from olivepress.core import checkpoint
from olivepress.core.errors import PressError
from olivepress.fetch.sources import fetch_checkpoint
from olivepress.fetch.weights import check_weights

TINY = Path(__file__).parents[2] / "data/tiny-phi3"
DOWN = "model.layers.2.mlp.down_proj.weight"
EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"


@pytest.fixture
def base(tmp_path):
    """Writes the embedded base, changed: ``edit`` gets its tensors, ``config`` goes into config.json."""

    def write(edit=lambda weights: None, **config) -> Path:
        folder = shutil.copytree(TINY, tmp_path / "base", dirs_exist_ok=True)
        weights = load_file(folder / "model.safetensors")
        edit(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
        return folder

    return write


def fetched(folder: Path) -> Path:
    out = folder.parent / "out"
    fetch_checkpoint(str(folder), out, trust_remote_code=False)
    return out


def error(folder: Path) -> str:
    with pytest.raises(PressError) as caught:
        fetched(folder)
    return caught.value.message


def with_value(name: str, value: float):
    def edit(weights):
        weights[name].view(-1)[-1] = value

    return edit


def without(*names: str):
    def edit(weights):
        for name in names:
            del weights[name]

    return edit


def as_dtype(name: str, dtype: torch.dtype):
    def edit(weights):
        weights[name] = weights[name].to(dtype)

    return edit


def reshaped(name: str, *shape: int):
    def edit(weights):
        weights[name] = torch.zeros(shape, dtype=torch.float16)

    return edit


def added(name: str):
    return lambda weights: weights.update({name: torch.zeros(4, 4, dtype=torch.float16)})


WRONG = {
    "no norm": (without(NORM), {}, f"{NORM} is missing, which config.json asks for"),
    "no norm of a layer": (without("model.layers.1.input_layernorm.weight"), {}, "model.layers.1.input_layernorm"),
    "no embeddings": (without(EMBEDDING), {}, f"{EMBEDDING} is missing"),
    "no head": (without(HEAD), {}, f"{HEAD} is missing"),
    "the first of two": (without(NORM, DOWN), {}, f"{DOWN} is missing"),
    "another name": (lambda w: w.update({DOWN + "s": w.pop(DOWN)}), {}, f"{DOWN} is missing"),
    "one too many": (added("model.layers.0.mlp.extra.weight"), {}, "model.layers.0.mlp.extra.weight is no tensor of"),
    "a layer too many": (added("model.layers.4.mlp.down_proj.weight"), {}, "model.layers.4.mlp.down_proj.weight is no"),
    "a layer too few": (lambda w: None, {"num_hidden_layers": 5}, "model.layers.4."),
    "fewer in the config": (lambda w: None, {"num_hidden_layers": 3}, "model.layers.3."),
    "a hundred layers": (lambda w: None, {"num_hidden_layers": 100}, "num_hidden_layers is 100, but the weights"),
    "shape of a norm": (reshaped(NORM, 255), {}, f"{NORM} is [255], but config.json asks for [256]"),
    "shape transposed": (reshaped(DOWN, 512, 256), {}, f"{DOWN} is [512, 256], but config.json asks for [256, 512]"),
    "shape empty": (reshaped(DOWN, 0, 512), {}, f"{DOWN} is [0, 512]"),
    "width": (lambda w: None, {"intermediate_size": 640}, "is [256, 512], but config.json asks for [256, 640]"),
    "vocabulary": (lambda w: None, {"vocab_size": 4096}, "is [2048, 256], but config.json asks for [4096, 256]"),
    "int8": (as_dtype(DOWN, torch.int8), {}, f"{DOWN} is I8, expected F16, BF16, F32, F64, since config.json has no"),
    "uint8": (as_dtype(DOWN, torch.uint8), {}, f"{DOWN} is U8"),
    "float8": (as_dtype(DOWN, torch.float8_e4m3fn), {}, f"{DOWN} is F8_E4M3"),
    "int64": (as_dtype(NORM, torch.int64), {}, f"{NORM} is I64"),
    "bool": (as_dtype(NORM, torch.bool), {}, f"{NORM} is BOOL"),
    "NaN": (with_value(DOWN, float("nan")), {}, f"{DOWN} has a value that is NaN or infinite"),
    "infinite": (with_value(EMBEDDING, float("inf")), {}, f"{EMBEDDING} has a value"),
    "minus infinite": (with_value(NORM, float("-inf")), {}, f"{NORM} has a value"),
    "another head": (lambda w: None, {"tie_word_embeddings": True}, f"{HEAD} is not {EMBEDDING}, but config.json"),
    "quantized": (lambda w: None, {"quantization_config": {"quant_method": "awq", "bits": 4}}, "quantization_config"),
    "quantized in part": (
        lambda w: None,
        {"text_config": {"quantization_config": {"quant_method": "gptq"}}},
        "text_config.quantization_config is set (gptq): the model is quantized already",
    ),
    "compressed": (lambda w: None, {"compression_config": {"format": "x"}}, "compression_config is set"),
    "unknown": (lambda w: None, {"model_type": "phi3000"}, "config.json: "),
    "no language model": (lambda w: None, {"model_type": "vit"}, "config.json: "),
    "rotary embedding": (lambda w: None, {"rope_parameters": {"rope_type": "of_my_own", "rope_theta": 1}}, "config."),
    "activation": (lambda w: None, {"hidden_act": "of_my_own"}, "config.json: "),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_differs_is_refused_by_name(base, case):
    edit, config, expected = WRONG[case]
    folder = base(edit, **config)
    message = error(folder)
    assert message.startswith(str(folder)), "it names the source"
    assert expected in message
    assert len(message) < 600


def no_change(weights: dict[str, torch.Tensor]) -> None:
    pass


def tie(weights: dict[str, torch.Tensor]) -> None:
    weights[HEAD] = weights[EMBEDDING].clone()


RIGHT = {
    "as it is": (no_change, {}),
    "tied, without a head": (without(HEAD), {"tie_word_embeddings": True}),
    "tied, with the same head": (tie, {"tie_word_embeddings": True}),
    "without the prefix": (lambda w: [w.update({k[6:]: w.pop(k)}) for k in list(w) if k.startswith("model.")], {}),
    "rotary frequencies of old": (
        lambda w: w.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16)}),
        {},
    ),
    "norms in float32": (as_dtype(NORM, torch.float32), {}),
    "bfloat16": (lambda w: w.update({name: tensor.bfloat16() for name, tensor in w.items()}), {"dtype": "bfloat16"}),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_transformers_reads_whole_is_taken(base, case):
    edit, config = RIGHT[case]
    folder = base(edit, **config)
    assert (fetched(folder) / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_shards_by_an_index_and_a_publishers_own_file_beside_them(tmp_path):
    folder = shutil.copytree(TINY, tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    parts = {"model-1.safetensors": sorted(weights)[:9], "model-2.safetensors": sorted(weights)[9:]}
    for file, names in parts.items():
        save_file({name: weights[name] for name in names}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, names in parts.items() for name in names}}
    (folder / checkpoint.INDEX).write_text(json.dumps(index))
    out = fetched(folder)
    assert {path.name for path in out.glob("*.safetensors")} == set(parts)
    assert checkpoint.weight_bytes(out) == checkpoint.weight_bytes(TINY)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2", "gpt2", "mixtral", "olmo2"])
def test_other_architectures_as_transformers_saves_them(tmp_path, architecture):
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"n_embd": 64, "n_layer": 2, "n_head": 4} if architecture == "gpt2" else {"num_key_value_heads": 2}
    sizes |= {"vocab_size": 2048, "max_position_embeddings": 64, "head_dim": 16, "num_local_experts": 2}
    tokens = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = transformers.CONFIG_MAPPING[architecture](**sizes, **tokens)
    folder = tmp_path / "base"
    transformers.AutoModelForCausalLM.from_config(config).half().save_pretrained(folder)
    check_weights(folder, checkpoint.read_config(folder), trust_remote_code=False)
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[-1]
    save_file({one: tensor for one, tensor in weights.items() if one != name}, folder / "model.safetensors")
    with pytest.raises(PressError, match=r"is missing|cannot be loaded"):
        check_weights(folder, checkpoint.read_config(folder), trust_remote_code=False)
