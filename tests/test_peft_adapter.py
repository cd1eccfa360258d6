"""PEFT adapters from anywhere: what is malformed or no plain LoRA is refused by file and key, the rest is as PEFT's."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from olivepress.core.errors import PressError
from olivepress.export.peft_adapter import read_peft

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Q = "base_model.model.model.layers.0.self_attn.q_proj"
A, B = f"{Q}.lora_A.weight", f"{Q}.lora_B.weight"


def tiny() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=40)).eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.arange(24).reshape(2, 12)).logits


def trained(folder: Path, **config) -> torch.Tensor:
    """An adapter as PEFT saves it, its matrices random; returns the adapted model's logits."""
    model = get_peft_model(tiny(), LoraConfig(task_type="CAUSAL_LM", **config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return logits(model)


CAN_BE_EXPRESSED = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ALL},
    "all linear": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
    "by expression": {"r": 4, "lora_alpha": 8, "target_modules": r".*\.(q|v)_proj"},
    "rsLoRA": {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ALL},
    "alpha below 1": {"r": 4, "lora_alpha": 0.5, "target_modules": ALL},
    "alpha 0": {"r": 4, "lora_alpha": 0, "target_modules": ALL},
    "ranks": {"r": 4, "lora_alpha": 8, "target_modules": ALL, "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 7}},
    "alphas": {"r": 4, "lora_alpha": 8, "target_modules": ALL, "alpha_pattern": {"^model.layers.0.*": 1, "v_proj": 3}},
    "ranks, alphas, rsLoRA": {
        **{"r": 4, "lora_alpha": 8, "target_modules": ALL, "use_rslora": True},
        **{"rank_pattern": {r"layers\.\d+\.self_attn\.[qk]_proj": 2}, "alpha_pattern": {"k_proj": 5, "q_proj": 6}},
    },
    "one layer": {"r": 4, "lora_alpha": 8, "target_modules": ALL, "layers_to_transform": [1]},
    "without some": {"r": 4, "lora_alpha": 8, "target_modules": ALL, "exclude_modules": ["up_proj"]},
    "dropout": {"r": 4, "lora_alpha": 8, "target_modules": ALL, "lora_dropout": 0.3},
    "gaussian": {"r": 4, "lora_alpha": 8, "target_modules": ALL, "init_lora_weights": "gaussian"},
    "orthogonal": {"r": 4, "lora_alpha": 8, "target_modules": ALL, "init_lora_weights": "orthogonal"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        *((case, torch.float32) for case in CAN_BE_EXPRESSED),
        *(("plain", dtype) for dtype in (torch.bfloat16, torch.float16, torch.float64)),
    ],
    ids=str,
)
def test_what_can_be_expressed_computes_as_peft_does(tmp_path, case, dtype):
    expected = trained(tmp_path, **CAN_BE_EXPRESSED[case])
    path = tmp_path / "adapter_model.safetensors"
    if dtype is not torch.float32:
        save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path)
        expected = logits(peft_model(tmp_path))
    model = tiny()
    with torch.no_grad():
        for (layer, name), (a, b) in read_peft(tmp_path).items():
            block = model.model.layers[layer]
            module = getattr(block.self_attn, name, None) or getattr(block.mlp, name)
            module.weight += torch.from_numpy(b) @ torch.from_numpy(a)
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
    assert case == "alpha 0" or not torch.allclose(logits(tiny()), expected, atol=1e-3)


def peft_model(folder: Path) -> torch.nn.Module:
    from peft import PeftModel

    return PeftModel.from_pretrained(tiny(), folder).eval()


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    trained(folder, r=4, lora_alpha=8, target_modules=["q_proj"])
    return folder


@pytest.fixture
def adapter(plain, tmp_path):
    """Copies the plain adapter, changed: keys of its config (``...`` takes one out), and its tensors by ``edit``."""

    def write(edit=None, **config) -> Path:
        value = json.loads((plain / "adapter_config.json").read_text()) | config
        text = json.dumps({key: one for key, one in value.items() if one is not ...})
        (tmp_path / "adapter_config.json").write_text(text)
        weights = load_file(plain / "adapter_model.safetensors")
        if edit:
            edit(weights)
        save_file(weights, tmp_path / "adapter_model.safetensors")
        return tmp_path

    return write


def error(folder: Path) -> str:
    with pytest.raises(PressError) as caught:
        read_peft(folder)
    assert len(caught.value.message) < 700
    return caught.value.message


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"3", b'"LORA"', b"null", b"[" * 99_999, b'{"r": NaN}', b'{"r": 9%s}' % (b"9" * 5000)],
    ids=range(9),
)  # fmt: skip
def test_a_configuration_that_is_none(adapter, data):
    folder = adapter()
    (folder / "adapter_config.json").write_bytes(data)
    assert error(folder).startswith(f"{folder / 'adapter_config.json'}: ")


def test_a_configuration_of_megabytes(adapter):
    folder = adapter(target_modules=["q_proj"] * 200_000)
    assert "expected at most 1,048,576" in error(folder)


CATASTROPHIC = ("(a+)+$", "(.*)*q_proj", "(.|.)*q_proj", "((q|q)+)+", "(?:x?){50}x{50}", ".*" * 30 + "q_proj")
MALFORMED = [
    ("r", ...), ("r", 0), ("r", -1), ("r", "4"), ("r", 4.5), ("r", True), ("r", [4]), ("r", 10**9),
    ("lora_alpha", ...), ("lora_alpha", "8"), ("lora_alpha", [8]), ("lora_alpha", True), ("lora_alpha", 1e300),
    ("lora_dropout", "none"), ("lora_dropout", 7), ("use_rslora", "false"), ("use_rslora", 1), ("use_dora", "no"),
    ("alpha_pattern", []), ("alpha_pattern", "q_proj"), ("alpha_pattern", {"q_proj": "8"}),
    ("alpha_pattern", {"q_proj": None}), ("rank_pattern", {"q_proj": 0}), ("rank_pattern", {"q_proj": [1]}),
    ("rank_pattern", ["q_proj"]), ("target_modules", 5), ("target_modules", {"q_proj": 1}), ("target_modules", [5]),
    *(("task_type", kind) for kind in ("SEQ_CLS", "FEATURE_EXTRACTION", "TOKEN_CLS", ["CAUSAL_LM"])),
    ("layers_to_transform", "all"), ("layers_to_transform", [-1]), ("base_model_name_or_path", ["a"]),
    ("alpha_pattern", {"q_proj)(": 8}), ("alpha_pattern", {"x" * 5000: 8}), ("init_lora_weights", {"a": 1}),
    *((key, {pattern: 2}) for key in ("alpha_pattern", "rank_pattern") for pattern in CATASTROPHIC),
]  # fmt: skip
NOT_PLAIN = [
    ("use_dora", True), ("alora_invocation_tokens", [5, 6]), ("alora_invocation_tokens", []), ("bias", "all"),
    ("bias", "lora_only"), ("bias", True), ("lora_bias", True), ("modules_to_save", ["lm_head"]),
    ("layer_replication", [[0, 1], [0, 1]]), ("trainable_token_indices", [1]), ("trainable_token_indices", {"e": [1]}),
    ("target_parameters", ["experts.up"]), ("use_qalora", True), ("use_bdlora", {"n": 1}), ("arrow_config", {"a": 1}),
    ("kasa_config", {"a": 1}), ("monteclora_config", {"a": 1}), ("megatron_config", {"a": 1}), ("of_my_own", 1),
    *(("init_lora_weights", start) for start in ("pissa", "pissa_niter_4", "olora", "corda", "loftq", "mica", "x")),
    *(("peft_type", kind) for kind in (None, "LOHA", "LOKR", "IA3", "OFT", "ADALORA", "PROMPT_TUNING", 3, ["LORA"])),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [*MALFORMED, *NOT_PLAIN], ids=lambda value: str(value)[:24])
def test_a_key_that_is_malformed_or_no_plain_lora_is_named(adapter, key, value):
    folder = adapter(**{key: value})
    assert error(folder).startswith(f"{folder / 'adapter_config.json'}: {key}")


def test_patterns_that_are_never_evaluated_may_be_anything(adapter):
    for pattern in CATASTROPHIC:
        assert read_peft(adapter(target_modules=pattern, exclude_modules=pattern))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("target_modules", value) for value in (["v_proj"], ["proj"], "q_proj", r".*\.(k|v)_proj")),
        *(("exclude_modules", value) for value in (["q_proj"], ["1.self_attn.q_proj"], r".*\.q_proj")),
        *(("layers_to_transform", value) for value in ([1], 0, [5])),
    ],
    ids=str,
)
def test_weights_that_peft_would_pass_over_are_refused(adapter, key, value):
    folder = adapter(**{key: value})
    message = error(folder)
    assert message.startswith(f"{folder / 'adapter_model.safetensors'}: has layer ")
    assert f"q_proj, which adapter_config.json leaves out ({key})" in message


def test_a_pointer_of_git_lfs_is_not_the_weights(adapter):
    folder = adapter()
    (folder / "adapter_model.safetensors").write_text(f"version https://git-lfs.example/spec/v1\noid {'a' * 64}\n")
    assert "a pointer of Git LFS, not the file that it stands for: run git lfs pull there" in error(folder)


def test_what_names_all_of_the_weights_is_taken(adapter):
    for value in (["q_proj"], ["self_attn.q_proj", "o_proj"], r".*\.(q|v)_proj", "all-linear", None):
        assert read_peft(adapter(target_modules=value, layers_to_transform=[0, 1], exclude_modules=["o_proj"]))


def cast(dtype: torch.dtype):
    return lambda weights: weights.update({A: weights[A].to(dtype)})


def cut(side: str, rows: slice, columns: slice = slice(None)):
    return lambda weights: weights.update({side: weights[side][rows, columns].contiguous()})


def filled(side: str, value: float):
    return lambda weights: weights.update({side: torch.full_like(weights[side], value)})


WEIGHTS = {
    "int8": (cast(torch.int8), f"{A} is I8, expected F16"),
    "uint8": (cast(torch.uint8), f"{A} is U8"),
    "int64": (cast(torch.int64), f"{A} is I64"),
    "bool": (cast(torch.bool), f"{A} is BOOL"),
    "float8": (cast(torch.float8_e4m3fn), f"{A} is F8_E4M3"),
    "float8 of the other kind": (cast(torch.float8_e5m2), f"{A} is F8_E5M2"),
    "complex": (cast(torch.complex64), f"{A} is C64"),
    "rank 0": (lambda w: (cut(A, slice(0, 0))(w), cut(B, slice(None), slice(0, 0))(w)), "expected a matrix of rank 1"),
    "another rank": (lambda w: (cut(A, slice(2))(w), cut(B, slice(None), slice(2))(w)), "rank 2, but by"),
    "ranks that differ": (cut(A, slice(2)), "lora_A and lora_B do not belong together"),
    "one side": (lambda w: w.pop(B), "lora_A and lora_B do not belong together"),
    "a vector": (lambda w: w.update({A: w[A][0].clone()}), f"{A} is [16], expected a matrix"),
    "three dimensions": (lambda w: w.update({A: w[A][None].clone()}), f"{A} is [1, 4, 16], expected a matrix"),
    "NaN": (filled(A, float("nan")), "has a value that is NaN or infinite"),
    "infinite": (filled(B, float("inf")), "has a value that is NaN or infinite"),
    "scaled to infinity": (filled(B, 3e38), "or becomes so when it is scaled"),
    "none": (lambda w: w.clear(), "has no tensors"),
    "layer 00": (lambda w: w.update({A.replace("0", "00"): w[A].clone()}), "not a LoRA matrix of a decoder layer's"),
    "what sees": (lambda w: w.update({A.replace("model.layers", "vision_tower.layers"): w.pop(A)}), "not a LoRA"),
    "twice": (lambda w: w.update({A.replace("model.model.", "model."): w[A].clone()}), "layer 0 has another q_proj"),
    "two modules of a name": (lambda w: w.update({A.replace("self_attn", "cross"): w[A].clone()}), "has another"),
    "DoRA's magnitude": (lambda w: w.update({f"{Q}.lora_magnitude_vector": w[A][0].clone()}), "not a LoRA matrix"),
    "a bias": (lambda w: w.update({f"{Q}.lora_B.bias": w[A][0].clone()}), "not a LoRA matrix"),
    "a module whole": (lambda w: w.update({"base_model.model.lm_head.weight": w[A].clone()}), "not a LoRA matrix"),
    "an embedding": (lambda w: w.update({"base_model.model.model.embed.lora_embedding_A": w[A].clone()}), "not a LoRA"),
    "an expert": (lambda w: w.update({A.replace("self_attn", "mlp.experts.3"): w[A].clone()}), "not a LoRA matrix"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_are_no_matrices_of_lora_are_named(adapter, case):
    edit, expected = WEIGHTS[case]
    folder = adapter(edit)
    message = error(folder)
    assert message.startswith(f"{folder / 'adapter_model.safetensors'}: ")
    assert expected in message


@pytest.mark.parametrize("size", [0, 7, 8, 100, -1])
def test_weights_that_are_cut_off(adapter, size):
    path = adapter() / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert error(path.parent).startswith(f"{path}: broken or truncated")


def test_a_header_that_asks_for_memory(adapter):
    path = adapter() / "adapter_model.safetensors"
    path.write_bytes(struct.pack("<Q", 12 * 10**9) + b"{}")
    assert "a header of 12,000,000,000 bytes" in error(path.parent)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "dangling"])
def test_what_is_no_file_of_the_folder(adapter, tmp_path_factory, name, kind):
    folder = adapter()
    elsewhere = (folder / name).rename(tmp_path_factory.mktemp("elsewhere") / name)
    make = {
        "fifo": os.mkfifo,
        "folder": Path.mkdir,
        "link": lambda path: path.symlink_to(elsewhere),
        "dangling": lambda path: path.symlink_to("nowhere"),
    }
    make[kind](folder / name)
    assert error(folder).startswith(f"{folder / name}: ")


def test_pickled_weights(adapter):
    folder = adapter()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert error(folder).startswith(f"{folder / 'adapter_model.bin'}: pickled weights.")
