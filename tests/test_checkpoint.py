"""Checkpoint folders are checked before anything is loaded."""

import json
import shutil
import struct
from contextlib import nullcontext
from pathlib import Path

import pytest

from olivepress.core import checkpoint
from olivepress.core.errors import PressError
from olivepress.core.offline import hub_offline

TINY = Path(__file__).parents[1] / "data/tiny-phi3"
CONFIG = {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}


def shard(path: Path, names: list[str]) -> None:
    """A safetensors file with a 2x3 float16 tensor per name."""
    header = {"__metadata__": {"format": "pt"}}
    for i, name in enumerate(names):
        header[name] = {"dtype": "F16", "shape": [2, 3], "data_offsets": [12 * i, 12 * i + 12]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(12 * len(names)))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    shard(tmp_path / "model.safetensors", ["a", "b"])
    return tmp_path


def error(folder: Path) -> str:
    with pytest.raises(PressError) as caught:
        checkpoint.check(folder)
    return caught.value.format_message()


def test_a_good_folder_gives_its_tensors(folder):
    info = checkpoint.TensorInfo("model.safetensors", "F16", (2, 3), 12)
    assert checkpoint.check(folder) == {"a": info, "b": info}
    assert checkpoint.parameters(folder) == 12
    assert checkpoint.weight_bytes(folder) == 24


def test_the_tiny_model_is_read_as_its_config_says():
    found = checkpoint.check(TINY)
    config = checkpoint.read_config(TINY)
    assert found["model.embed_tokens.weight"].shape == (config["vocab_size"], config["hidden_size"])
    assert {info.dtype for info in found.values()} == {"F16"}
    assert checkpoint.weight_bytes(TINY) == 2 * checkpoint.parameters(TINY)
    assert checkpoint.weight_bytes(TINY) < (TINY / "model.safetensors").stat().st_size


def test_without_config(folder):
    (folder / "config.json").unlink()
    assert error(folder) == f"{folder}: no config.json. Expected a Hugging Face checkpoint folder."


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_broken_config(folder, content):
    (folder / "config.json").write_bytes(content)
    assert error(folder).startswith(f"{folder / 'config.json'}: not valid JSON (")


@pytest.mark.parametrize("config", [[], {"model_type": "phi3"}, {"model_type": "phi3", "architectures": []}])
def test_config_without_architecture(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    assert "'model_type' and 'architectures' must both be set" in error(folder)


def test_without_safetensors(folder):
    (folder / "model.safetensors").unlink()
    assert error(folder) == f"{folder}: no *.safetensors file. Expected a checkpoint with safetensors weights."


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "model.ckpt"])
def test_pickles_only(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    message = error(folder)
    assert message.startswith(f"{folder}: has pickled weights only ({name}).")
    assert "can run any code" in message


def test_a_pickle_beside_safetensors_is_ignored(folder):
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert set(checkpoint.check(folder)) == {"a", "b"}


def test_truncated_shard(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    message = error(folder)
    assert message.startswith(f"{path}: broken or truncated, {len(whole) - 1} bytes (")
    assert "file not fully covered" in message and message.endswith("Fetch the model again.")


@pytest.mark.parametrize("size", [0, 7, 8, 30])
def test_a_shard_cut_within_its_header(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert error(folder).startswith(f"{path}: broken or truncated, {size} bytes (")


def test_a_git_lfs_pointer_instead_of_a_shard(folder):
    path = folder / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert "model.safetensors: broken or truncated, " in error(folder)


def test_several_shards_by_index(folder):
    (folder / "model.safetensors").unlink()
    shard(folder / "model-1.safetensors", ["a"])
    shard(folder / "model-2.safetensors", ["b"])
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / checkpoint.INDEX).write_text(json.dumps(index))
    found = checkpoint.check(folder)
    assert {name: info.file for name, info in found.items()} == index["weight_map"]


def test_an_index_that_names_a_missing_shard(folder):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / checkpoint.INDEX).write_text(json.dumps(index))
    path = folder / checkpoint.INDEX
    assert error(folder) == f"{path}: names model-2.safetensors, which is not there. Fetch the model again."


@pytest.mark.parametrize(
    "header", [[], {"a": 1}, {"a": {}}, {"a": {"dtype": "F16", "shape": 3, "data_offsets": [0, 1]}}]
)
def test_a_header_of_another_shape(folder, header):
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"data")
    assert "model.safetensors: broken or truncated, " in error(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/model.safetensors", f"{'x' * 5000}.safetensors"])
def test_an_index_that_leads_out_of_the_folder(folder, name):
    (folder / checkpoint.INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    assert f"names {name[:200]!r}, which is not in this folder" in error(folder)


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"weight_map": []}', '{"weight_map": {"a": [1]}}'])
def test_a_broken_index(folder, content):
    (folder / checkpoint.INDEX).write_text(content)
    expected = "not valid JSON (" if content == "{" else "broken index ("
    assert error(folder).startswith(f"{folder / checkpoint.INDEX}: {expected}")


def test_only_what_the_index_names_counts(folder):
    shard(folder / "consolidated.safetensors", ["a", "b", "c"])
    assert checkpoint.parameters(folder) == 12
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = folder / checkpoint.INDEX
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors"}}))
    assert set(checkpoint.check(folder)) == {"a", "b"}
    index.unlink()
    assert "has consolidated.safetensors, but neither model.safetensors nor" in error(folder)


@pytest.mark.parametrize(
    ("weight_map", "expected"),
    [
        ({"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}, "c is not in model-2"),
        ({"a": "model-2.safetensors", "b": "model-1.safetensors"}, "a is in model-1.safetensors, not in model-2"),
        ({"a": "model-1.safetensors", "c": "model-3.safetensors"}, "b is in model-1.safetensors, too"),
    ],
)
def test_a_tensor_lies_where_the_index_says_and_once(folder, weight_map, expected):
    (folder / "model.safetensors").unlink()
    shard(folder / "model-1.safetensors", ["a", *("b" * ("too" in expected))])
    shard(folder / "model-2.safetensors", ["b"])
    shard(folder / "model-3.safetensors", ["b", "c"])
    (folder / checkpoint.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    assert expected in error(folder)


def test_a_listing_counts_no_weights_twice():
    parts = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    assert checkpoint.weight_names({*parts, "consolidated.safetensors", "onnx/model.safetensors"}) == parts
    assert checkpoint.weight_names(["model.safetensors", "config.json"]) == {"model.safetensors"}
    assert checkpoint.weight_names(["of_my_own.safetensors"]) == {"of_my_own.safetensors"}


def test_without_tokenizer(folder):
    (folder / "tokenizer_config.json").unlink()
    assert error(folder).startswith(f"{folder}: no tokenizer_config.json.")


def test_licence_and_notice_go_along(folder, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    for name in ("LICENSE", "LICENSE.txt", "NOTICE.md", "README.md"):
        (folder / name).write_text(name)
    checkpoint.carry_licence(folder, target)
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        name: name for name in ("LICENSE", "LICENSE.txt", "NOTICE.md")
    }
    shutil.rmtree(target)


def test_a_tokenizer_saved_offline_is_the_one_saved_online(tmp_path):
    import transformers

    files = {}
    for name, context in (("online", nullcontext()), ("offline", hub_offline())):
        with context:
            transformers.AutoTokenizer.from_pretrained(TINY).save_pretrained(tmp_path / name)
        checkpoint.forget_offline(tmp_path / name)
        files[name] = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
    assert files["online"] == files["offline"]
    assert b'"local_files_only": false' in files["online"]["tokenizer_config.json"]
