"""What a folder, the hub or Azure may hold under a model's names: links, pipes, folders, names that lead elsewhere."""

import json
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from hub import Hub, serve_this_process
from safetensors.torch import load_file, save_file

from olivepress.core import checkpoint
from olivepress.core.errors import PressError
from olivepress.fetch.files import LARGEST, LARGEST_DOCUMENT, check_files, check_names
from olivepress.fetch.sources import fetch_checkpoint

TINY = Path(__file__).parents[2] / "data/tiny-phi3"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "press/tiny"


@pytest.fixture
def base(tmp_path) -> Path:
    return shutil.copytree(TINY, tmp_path / "base")


def bound(path: Path) -> None:
    """A socket; its path may have a hundred characters, so it is made elsewhere."""
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as made:
        made.bind(f"{short}/s")
        shutil.move(f"{short}/s", path)


KINDS = {
    "fifo": (os.mkfifo, "not a file"),
    "socket": (bound, "not a file"),
    "folder": (Path.mkdir, "not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a link to /dev/zero, outside of the model's folder"),
    "link out": (lambda path: path.symlink_to(Path(__file__).resolve()), "outside of the model's folder"),
    "link up": (lambda path: path.symlink_to("../base2/x"), "outside of the model's folder"),
    "link to itself": (lambda path: path.symlink_to(path.name), "a link that leads to itself"),
    "link to nothing": (lambda path: path.symlink_to("nothing"), "not a file"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "LICENSE", "z.json"]
)
def test_what_is_no_file_of_the_folder_is_refused_by_name(base, tmp_path, name, kind):
    make, expected = KINDS[kind]
    (base / name).unlink(missing_ok=True)
    make(base / name)
    with pytest.raises(PressError) as caught:
        fetch_checkpoint(str(base), tmp_path / "out", trust_remote_code=False)
    assert caught.value.message.startswith(f"{base / name}: {expected}") or expected in caught.value.message
    assert str(base / name) in caught.value.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "size"), [("LICENSE", LARGEST_DOCUMENT), ("README.md", 2**40), ("z.json", LARGEST)])
def test_a_file_that_is_too_large_is_refused_unread(base, tmp_path, name, size):
    with (base / name).open("wb") as file:
        file.truncate(size + 1)  # sparse
    with pytest.raises(PressError, match=f"{name}: .* bytes, expected at most"):
        fetch_checkpoint(str(base), tmp_path / "out", trust_remote_code=False)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "LICENSE"])
def test_a_pointer_of_git_lfs_is_not_the_file(base, tmp_path, name):
    (base / name).write_text(f"version https://git-lfs.example/spec/v1\noid sha256:{'a' * 64}\nsize 4000000000\n")
    with pytest.raises(PressError, match=rf"{name}: a pointer of Git LFS, .*: run git lfs pull there"):
        fetch_checkpoint(str(base), tmp_path / "out", trust_remote_code=False)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_in_a_model_folder_would_load_another_base(base, tmp_path, name):
    (base / name).write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "press/other"}))
    with pytest.raises(PressError, match=f"{name}: the folder has an adapter"):
        fetch_checkpoint(str(base), tmp_path / "out", trust_remote_code=False)


BAD_NAMES = {
    "../../x.json": "outside of its folder",
    "a/../../x.json": "outside of its folder",
    "/x.json": "outside of its folder",
    "..": "outside of its folder",
    "": "outside of its folder",
    "a\\..\\..\\x.json": "which systems read differently",
    "C:x.json": "which systems read differently",
    "*.json": "which systems read differently",
    "x\n.json": "which systems read differently",
    "x\x00.json": "which systems read differently",
    "\u202egnp.json": "which systems read differently",
    "Config.json": "which are one file to some systems",
    "CONFIG.JSON": "which are one file to some systems",
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(PressError, match=BAD_NAMES[name]) as caught:
        check_names("model.source: hf://a/b", ["config.json", name, "a/b.json"])
    assert caught.value.message.startswith("model.source: hf://a/b: ")
    assert repr(name) in caught.value.message


def test_names_that_models_have_are_taken(tmp_path):
    check_names("x", [path.name for path in TINY.iterdir()] + ["model-00001-of-00002.safetensors", "LICENSE (MIT).txt"])
    check_files(TINY, TINY.iterdir())


@pytest.fixture
def hub():
    server = Hub(NAME, COMMIT, {path.name: path.read_bytes() for path in sorted(TINY.iterdir())})
    yield server
    server.close()


@pytest.fixture
def from_hub(hub, tmp_path, monkeypatch):
    serve_this_process(hub, monkeypatch)

    def fetch() -> Path:
        fetch_checkpoint(f"hf://{NAME}@{COMMIT}", tmp_path / "out", trust_remote_code=False)
        return tmp_path / "out"

    return fetch


@pytest.mark.parametrize("name", ["../../x.json", "/x.json", "a/../../x.bin", "Config.json", "x\n.json"])
def test_a_listing_of_the_hub_is_not_believed(hub, from_hub, name):
    hub.files[name] = b"{}"
    with pytest.raises(PressError) as caught:
        from_hub()
    assert caught.value.message.startswith(f"model.source: hf://{NAME}@{COMMIT}: ") and repr(name) in str(caught.value)
    assert [path for _, path, _ in hub.requests if "/resolve/" in path] == []


def test_of_the_hub_only_what_the_index_names_is_fetched(hub, from_hub, tmp_path):
    weights = load_file(TINY / "model.safetensors")
    del hub.files["model.safetensors"]
    parts = {"model-1.safetensors": sorted(weights)[:9], "model-2.safetensors": sorted(weights)[9:]}
    for file, names in parts.items():
        save_file({name: weights[name] for name in names}, tmp_path / file)
        hub.files[file] = (tmp_path / file).read_bytes()
    index = {"metadata": {}, "weight_map": {name: file for file, names in parts.items() for name in names}}
    hub.files[checkpoint.INDEX] = json.dumps(index).encode()
    hub.files["consolidated.safetensors"] = hub.files["onnx/model.safetensors"] = b"as large as all of these"
    hub.files["onnx/config.json"] = b"{}"
    out = from_hub()
    assert {path.name for path in out.iterdir()} == {path for path in hub.files if "/" not in path} - {
        "consolidated.safetensors"
    }
    assert not [path for _, path, _ in hub.requests if path.endswith(("consolidated.safetensors", "onnx/config.json"))]
