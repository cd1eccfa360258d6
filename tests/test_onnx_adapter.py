"""PEFT adapters for ONNX Runtime: scaling, what is refused, and how matrices are packed and split."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from olivepress.core.errors import PressError
from olivepress.export import adapter as onnx_adapter
from olivepress.export.adapter import _check_shape, _fit, _modules
from olivepress.export.peft_adapter import read_peft
from olivepress.export.projections import Projection

RANDOM = np.random.default_rng(0)
QKV = (4, 2, 2)
PREFIX = "base_model.model.model.layers"


def pair(inputs: int, outputs: int, rank: int = 2) -> tuple[np.ndarray, np.ndarray]:
    return (
        RANDOM.standard_normal((rank, inputs), dtype=np.float32),
        RANDOM.standard_normal((outputs, rank), dtype=np.float32),
    )


def keys(layer: int, path: str, matrices: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{PREFIX}.{layer}.{path}.lora_{s}.weight": m for s, m in zip("AB", matrices, strict=True)}


@pytest.fixture
def peft(tmp_path):
    """Writes an adapter folder; keyword arguments go into its config."""

    def peft(tensors: dict[str, np.ndarray], **config):
        folder = tmp_path / "adapter"
        folder.mkdir(exist_ok=True)
        plain = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "use_dora": False}
        (folder / "adapter_config.json").write_text(json.dumps(plain | config))
        save_file(tensors, folder / "adapter_model.safetensors")
        return folder

    return peft


def error(function, *arguments) -> str:
    with pytest.raises(PressError) as caught:
        function(*arguments)
    return caught.value.format_message()


# --- read_peft


def test_scaling_is_alpha_over_rank_and_folded_into_b(peft):
    a, b = pair(6, 4)
    folder = peft(keys(3, "self_attn.q_proj", (a, b)))
    found = read_peft(folder)
    assert list(found) == [(3, "q_proj")]
    np.testing.assert_array_equal(found[3, "q_proj"][0], a)
    np.testing.assert_allclose(found[3, "q_proj"][1], b * 4)


def test_rslora_scales_by_the_root_of_the_rank(peft):
    a, b = pair(6, 4, rank=4)
    found = read_peft(peft(keys(0, "mlp.down_proj", (a, b)), use_rslora=True, r=4))
    np.testing.assert_allclose(found[0, "down_proj"][1], b * 4, rtol=1e-6)
    a, b = pair(6, 4, rank=3)
    found = read_peft(peft(keys(0, "mlp.down_proj", (a, b)), use_rslora=True, lora_alpha=3, r=3))
    np.testing.assert_allclose(found[0, "down_proj"][1], b * 3**0.5, rtol=1e-6)


@pytest.mark.parametrize("pattern", ["q_proj", "[qkv]_proj", ".*q_proj"])
def test_alpha_pattern_applies_to_the_modules_it_names(peft, pattern):
    q, o = pair(6, 4), pair(4, 6)
    tensors = keys(1, "self_attn.q_proj", q) | keys(1, "self_attn.o_proj", o)
    found = read_peft(peft(tensors, alpha_pattern={pattern: 2}))
    np.testing.assert_allclose(found[1, "q_proj"][1], q[1])
    np.testing.assert_allclose(found[1, "o_proj"][1], o[1] * 4)


def test_alpha_pattern_matches_whole_name_parts(peft):
    gate_up = pair(6, 4)
    found = read_peft(peft(keys(0, "mlp.gate_up_proj", gate_up), alpha_pattern={"up_proj": 100}))
    np.testing.assert_allclose(found[0, "gate_up_proj"][1], gate_up[1] * 4)


def test_rank_pattern_shows_in_the_matrix_itself(peft):
    b = pair(6, 4, rank=8)
    found = read_peft(peft(keys(0, "self_attn.q_proj", b), rank_pattern={"q_proj": 8}))
    np.testing.assert_allclose(found[0, "q_proj"][1], b[1])


def test_half_precision_becomes_float32_before_it_is_scaled(peft):
    a, b = (matrix.astype(np.float16) for matrix in pair(6, 4))
    b[:] = 60000
    found = read_peft(peft(keys(0, "self_attn.q_proj", (a, b))))
    assert found[0, "q_proj"][0].dtype == found[0, "q_proj"][1].dtype == np.float32
    assert np.isfinite(found[0, "q_proj"][1]).all()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"use_dora": True}, "use_dora is set; the ONNX graph has inputs for plain LoRA matrices only."),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set;"),
        ({"lora_bias": True}, "lora_bias is set;"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices is set;"),
        ({"alora_invocation_tokens": [5, 6]}, "alora_invocation_tokens is set;"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication is set;"),
        ({"target_parameters": ["mlp.experts"]}, "target_parameters is set;"),
        ({"use_qalora": True}, "use_qalora is set;"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora is set;"),
        (
            {"monteclora_config": {"samples": 2}},
            "monteclora_config is set; what it does to an adapter is not known",
        ),
        ({"alpha_pattern": {"(a+)+q_proj": 3}}, "alpha_pattern: '(a+)+q_proj': expected the name of a module"),
        ({"bias": "lora_only"}, "bias is 'lora_only'; the ONNX graph has no input for biases."),
        ({"bias": "all"}, "bias is 'all';"),
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'; only LORA can be converted."),
        ({"peft_type": None}, "peft_type is None; only LORA can be converted."),
    ],
)
def test_anything_but_plain_lora_is_refused(peft, config, expected):
    folder = peft(keys(0, "self_attn.q_proj", pair(6, 4)), **config)
    assert error(read_peft, folder).startswith(f"{folder / 'adapter_config.json'}: {expected}")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(peft, name):
    folder = peft(keys(0, "self_attn.q_proj", pair(6, 4)))
    (folder / name).rename(folder / "other")
    assert error(read_peft, folder).startswith(
        f"{folder / name}: not there, or no file. Expected a PEFT adapter folder"
    )


@pytest.mark.parametrize(
    "key",
    [
        "base_model.model.lm_head.lora_A.weight",
        f"{PREFIX}.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.model.embed_tokens.lora_embedding_A",
    ],
)
def test_a_tensor_that_is_no_projection_s_matrix_is_refused(peft, key):
    folder = peft({key: np.ones((2, 2), np.float32)})
    assert f"{key}: not a LoRA matrix of a decoder layer's projection." in error(read_peft, folder)


def test_halves_that_do_not_belong_together_are_refused(peft):
    a, b = pair(6, 4)
    alone = {f"{PREFIX}.2.mlp.up_proj.lora_A.weight": a}
    assert "layer 2 up_proj: lora_A and lora_B do not belong together." in error(read_peft, peft(alone))
    other_rank = keys(2, "mlp.up_proj", (a, b[:, :1]))
    assert "layer 2 up_proj: lora_A and lora_B do not belong together." in error(read_peft, peft(other_rank))


# --- _modules, _fit


def fit(name: str, inputs: int, outputs: int, adapter: dict, layer: int = 0, *, blocks: bool = False):
    projection = Projection(layer, name, inputs, outputs, "float32", blocks=blocks)
    modules = _modules(projection, adapter)
    return _fit(projection, modules, adapter, QKV), {(layer, module) for module in modules}


def test_a_matching_projection_is_taken_as_it_is():
    adapter = {(0, "o_proj"): pair(4, 6)}
    (a, b), used = fit("o_proj", 4, 6, adapter)
    assert a is adapter[0, "o_proj"][0]
    assert b is adapter[0, "o_proj"][1]
    assert used == {(0, "o_proj")}


def test_an_untouched_projection_stays_untouched():
    adapter = {(1, "o_proj"): pair(4, 6), (1, "q_proj"): pair(6, 4)}
    for name in ("o_proj", "q_proj", "qkv_proj", "gate_proj", "gate_up_proj"):
        assert _modules(Projection(0, name, 6, 4, "float32"), adapter) == []


def test_q_k_v_are_packed_block_diagonally():
    q, k, v = pair(6, 4, 2), pair(6, 2, 3), pair(6, 2, 1)
    (a, b), used = fit("qkv_proj", 6, 8, {(0, "q_proj"): q, (0, "k_proj"): k, (0, "v_proj"): v})
    assert used == {(0, "q_proj"), (0, "k_proj"), (0, "v_proj")}
    assert (a.shape, b.shape) == ((6, 6), (8, 6))
    np.testing.assert_array_equal(b[:4, :2], q[1])
    np.testing.assert_array_equal(b[4:6, 2:5], k[1])
    np.testing.assert_array_equal(b[6:, 5:], v[1])
    assert np.count_nonzero(b) == q[1].size + k[1].size + v[1].size
    np.testing.assert_allclose(b @ a, np.concatenate([p[1] @ p[0] for p in (q, k, v)]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("present", [["q"], ["k"], ["v"], ["q", "v"], ["k", "v"]])
def test_a_part_without_lora_is_a_block_of_zeros(present):
    sizes = dict(zip("qkv", QKV, strict=True))
    parts = {name: pair(6, sizes[name]) for name in present}
    (a, b), used = fit("qkv_proj", 6, 8, {(0, f"{name}_proj"): parts[name] for name in present})
    expected = [parts[n][1] @ parts[n][0] if n in parts else np.zeros((sizes[n], 6)) for n in "qkv"]
    np.testing.assert_allclose(b @ a, np.concatenate(expected), rtol=1e-5, atol=1e-6)
    assert used == {(0, f"{name}_proj") for name in present}


def test_gate_and_up_are_packed_in_that_order():
    gate, up = pair(6, 5), pair(6, 5)
    (a, b), _ = fit("gate_up_proj", 6, 10, {(0, "up_proj"): up, (0, "gate_proj"): gate})
    np.testing.assert_allclose(b @ a, np.concatenate([gate[1] @ gate[0], up[1] @ up[0]]), rtol=1e-5, atol=1e-6)


def test_gate_up_is_split_into_halves():
    gate_up = pair(6, 10)
    adapter = {(0, "gate_up_proj"): gate_up}
    (gate_a, gate_b), used = fit("gate_proj", 6, 5, adapter)
    (up_a, up_b), _ = fit("up_proj", 6, 5, adapter)
    assert used == {(0, "gate_up_proj")}
    assert gate_a is up_a is gate_up[0]
    np.testing.assert_array_equal(gate_b, gate_up[1][:5])
    np.testing.assert_array_equal(up_b, gate_up[1][5:])


def test_qkv_is_split_by_the_heads_sizes():
    a, b = pair(6, 8)
    parts = {n: fit(f"{n}_proj", 6, size, {(0, "qkv_proj"): (a, b)})[0] for n, size in zip("qkv", QKV, strict=True)}
    assert [len(parts[name][1]) for name in "qkv"] == [4, 2, 2]
    np.testing.assert_array_equal(np.concatenate([parts[name][1] for name in "qkv"]), b)
    assert all(parts[name][0] is a for name in "qkv")


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "adapter", "maps"),
    [
        ("o_proj", 4, 6, {(0, "o_proj"): pair(5, 6)}, "5 inputs to 6 outputs, the graph 4 to 6"),
        ("o_proj", 4, 6, {(0, "o_proj"): pair(4, 7)}, "4 inputs to 7 outputs, the graph 4 to 6"),
        ("qkv_proj", 6, 8, {(0, "k_proj"): pair(6, 4)}, "6 inputs to 4 outputs, the graph 6 to 8"),
        ("v_proj", 6, 2, {(0, "qkv_proj"): pair(6, 10)}, "6 inputs to 4 outputs, the graph 6 to 2"),
        ("gate_proj", 6, 5, {(0, "gate_up_proj"): pair(6, 12)}, "6 inputs to 6 outputs, the graph 6 to 5"),
    ],
)
def test_wrong_shapes_are_refused_with_both_shapes(tmp_path, name, inputs, outputs, adapter, maps):
    matrices, _ = fit(name, inputs, outputs, adapter)
    message = error(_check_shape, tmp_path, Projection(0, name, inputs, outputs, "float32"), *matrices)
    assert message == f"{tmp_path}: layer 0 {name}: the adapter maps {maps}. Was it trained on another base?"


# --- convert


@pytest.fixture
def model(tmp_path):
    """A graph of LoRA inputs alone: two layers with q, k, v unpacked and gate_up packed, float16."""
    import onnx
    from onnx import helper

    inputs = [
        helper.make_tensor_value_info(
            f"model.layers.{layer}.{name}.lora_{side}.weight", onnx.TensorProto.FLOAT16, shape
        )
        for layer in range(2)
        for name, n in (("q_proj", 4), ("k_proj", 2), ("v_proj", 2), ("gate_up_proj", 10))
        for side, shape in (("A", ["rank", 6]), ("B", ["rank", n]))
    ]
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(helper.make_model(helper.make_graph([], "g", inputs, [])), folder / "model.onnx")
    decoder = {"head_size": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    (folder / "genai_config.json").write_text(json.dumps({"model": {"decoder": decoder}}))
    return folder


def read_adapter(path):
    import onnxruntime

    file = onnxruntime.AdapterFormat.read_adapter(str(path))
    found = {name: value.numpy().copy() for name, value in file.get_parameters().items()}
    return found, (file.get_adapter_version(), file.get_model_version())


def test_convert_writes_what_the_graph_takes(tmp_path, peft, model):
    qkv, gate = pair(6, 8), pair(6, 5)
    adapter = peft(keys(1, "self_attn.qkv_proj", qkv) | keys(0, "mlp.gate_proj", gate))
    assert onnx_adapter.convert(adapter, model, tmp_path / "out.onnx_adapter") == 4
    found, versions = read_adapter(tmp_path / "out.onnx_adapter")
    assert versions == (1, 1)
    assert {key.partition(".lora")[0] for key in found} == {
        "model.layers.0.gate_up_proj",
        *(f"model.layers.1.{n}_proj" for n in "qkv"),
    }
    assert {value.dtype for value in found.values()} == {np.dtype(np.float16)}
    q = [found[f"model.layers.1.q_proj.lora_{side}.weight"] for side in "AB"]
    assert (q[0].shape, q[1].shape) == ((2, 6), (2, 4))
    np.testing.assert_array_equal(q[1], (qkv[1][:4].T * 4).astype(np.float16))
    gate_up = found["model.layers.0.gate_up_proj.lora_B.weight"]
    np.testing.assert_array_equal(gate_up[:, 5:], 0)


@pytest.mark.parametrize(("layer", "module"), [(0, "self_attn.o_proj"), (5, "self_attn.q_proj"), (0, "mlp.experts")])
def test_a_module_that_the_graph_lacks_is_refused(tmp_path, peft, model, layer, module):
    adapter = peft(keys(0, "self_attn.k_proj", pair(6, 2)) | keys(layer, module, pair(6, 4)))
    message = error(onnx_adapter.convert, adapter, model, tmp_path / "out")
    name = module.rpartition(".")[2]
    assert message.startswith(f"{adapter}: layer {layer} {name}: the graph in {model} has no such projection")
    known = "(2 layers with gate_up_proj, k_proj, q_proj, v_proj)"
    assert f"{known}. Was it trained on another base, or is the target exported with lora_inputs: attention?" in message
    assert not (tmp_path / "out").exists()


def test_a_projection_beside_a_part_of_it_is_refused(tmp_path, peft, model):
    adapter = peft(keys(1, "self_attn.qkv_proj", pair(6, 8)) | keys(1, "self_attn.k_proj", pair(6, 2)))
    message = error(onnx_adapter.convert, adapter, model, tmp_path / "out")
    assert message.startswith(f"{adapter}: layer 1 has qkv_proj and k_proj, a part of it")


def test_an_adapter_for_other_shapes_is_refused(tmp_path, peft, model):
    adapter = peft(keys(0, "self_attn.q_proj", pair(12, 4)))
    message = error(onnx_adapter.convert, adapter, model, tmp_path / "out")
    assert "layer 0 q_proj: the adapter maps 12 inputs to 4 outputs, the graph 6 to 4." in message
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_values_beyond_the_graph_s_dtype_are_refused(tmp_path, peft, model):
    a, b = pair(6, 4)
    b[0, 0] = 60000
    message = error(onnx_adapter.convert, peft(keys(0, "self_attn.q_proj", (a, b))), model, tmp_path / "out")
    assert "model.layers.0.q_proj.lora_B.weight has values that float16 cannot hold." in message


def test_a_graph_without_lora_inputs_is_refused(tmp_path, peft, model):
    import onnx
    from onnx import helper

    onnx.save(helper.make_model(helper.make_graph([], "g", [], [])), model / "model.onnx")
    adapter = peft(keys(0, "self_attn.q_proj", pair(6, 4)))
    assert "the graph has no LoRA inputs. Export it with" in error(onnx_adapter.convert, adapter, model, tmp_path / "o")


WHOLE = keys(0, "self_attn.q_proj", pair(6, 4)) | keys(1, "self_attn.q_proj", pair(6, 4))


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({"target_modules": ["q_proj"]}, True),
        ({}, False),
        ({"target_modules": ["q_proj"], "layers_to_transform": [1]}, False),
        ({"target_modules": ["q_proj"], "exclude_modules": ["layers.0.self_attn.q_proj"]}, False),
        ({"target_modules": ["1.self_attn.q_proj"]}, False),
        ({"target_modules": r".*\.q_proj"}, False),
    ],
)
def test_an_adapter_that_lacks_a_layer_is_refused(tmp_path, peft, model, config, refused):
    assert onnx_adapter.convert(peft(WHOLE, target_modules=["q_proj"]), model, tmp_path / "whole") == 2
    adapter = peft({key: value for key, value in WHOLE.items() if ".layers.1." in key}, **config)
    if refused:
        message = error(onnx_adapter.convert, adapter, model, tmp_path / "out")
        assert message.startswith(f"{adapter}: has no weights for layer 0 q_proj, and has them for other layers")
    else:
        assert onnx_adapter.convert(adapter, model, tmp_path / "out") == 1


# --- packed, without zeros

PARTS = {"qkv_proj": (("q_proj", "k_proj", "v_proj"), QKV), "gate_up_proj": (("gate_proj", "up_proj"), (5, 5))}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("ranks", [(2, 2, 2), (1, 4, 2), (3, None, 1), (None, 2, None)])
def test_packed_without_zeros_every_part_adds_what_it_does_alone(name, ranks):
    parts, widths = PARTS[name]
    ranks = dict(zip(parts, ranks, strict=False))
    adapter = {(0, part): pair(6, width, ranks[part]) for part, width in zip(parts, widths, strict=True) if ranks[part]}
    (a, b), used = fit(name, 6, sum(widths), adapter, blocks=True)
    assert used == set(adapter)
    most = max(filter(None, ranks.values()))
    assert a.shape == (most * len(parts), 6) and b.shape == (sum(widths), most)
    x = RANDOM.standard_normal(6)
    shares = (a @ x).reshape(len(parts), most)
    end = 0
    for number, (part, width) in enumerate(zip(parts, widths, strict=True)):
        found = b[end : end + width] @ shares[number]
        expected = adapter[0, part][1] @ adapter[0, part][0] @ x if ranks[part] else np.zeros(width)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        end += width


def test_a_packed_module_of_a_graph_without_zeros_has_its_a_once_a_part():
    whole = pair(6, sum(QKV))
    (a, b), _ = fit("qkv_proj", 6, sum(QKV), {(0, "qkv_proj"): whole}, blocks=True)
    np.testing.assert_array_equal(a, np.concatenate([whole[0]] * 3))
    np.testing.assert_array_equal(b, whole[1])


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("sizes", [(5, 4), (6, 3)])
def test_a_part_of_another_size_is_named(blocks, sizes):
    adapter = {(0, "q_proj"): pair(*sizes), (0, "k_proj"): pair(6, 2)}
    projection = Projection(0, "qkv_proj", 6, sum(QKV), "float32", blocks=blocks)
    a, b = _fit(projection, _modules(projection, adapter), adapter, QKV)
    said = error(_check_shape, "adapter", projection, a, b)
    assert f"the adapter maps {sizes[0]} inputs to {sizes[1]} outputs, the graph 6 to 8" in said
