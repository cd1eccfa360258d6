"""Where a base model may come from, and what of it is taken. No network."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub import Hub

from olivepress.core.errors import PressError
from olivepress.core.outputs import sha256
from olivepress.fetch.sources import fetch_checkpoint

ROOT = Path(__file__).parents[2]
TINY = ROOT / "data/tiny-phi3"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def error(source: str, folder: Path) -> str:
    with pytest.raises(PressError) as caught:
        fetch_checkpoint(source, folder, trust_remote_code=False)
    assert not folder.exists()
    return caught.value.format_message()


def fetch(tmp_path: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "stages.fetch", "--out", tmp_path / "out"),
            *("--inputs", tmp_path / "inputs.json", "--quality", tmp_path / "q.json", *options),
        ],
        cwd=ROOT,
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def source(tmp_path):
    """A checkpoint with things that must not be taken."""
    folder = tmp_path / "source"
    shutil.copytree(TINY, folder)
    for name in ("modeling_phi3.py", "pytorch_model.bin", "optimizer.pt", ".hidden.sh", "LICENSE", "README.md"):
        (folder / name).write_text(name)
    (folder / "nested").mkdir()
    (folder / "nested" / "more.json").write_text("{}")
    return folder


@pytest.mark.parametrize("source", ["s3://bucket/model", "https://example.com/m", "HF://a/b@main", "file:///m"])
def test_unknown_scheme(tmp_path, source):
    message = error(source, tmp_path / "out")
    assert message.startswith(f"model.source: {source}: unknown scheme.")
    assert "Expected a folder, a GGUF file, hf://owner/name@revision, azureml://… or pypi://…" in message


@pytest.mark.parametrize(
    "source", ["hf://", "hf://name@main", "hf://owner/name", "hf://owner/name@", f"hf://a/b/c@{COMMIT}", "hf://a b/c@d"]
)
def test_malformed_hub_name(tmp_path, source):
    message = error(source, tmp_path / "out")
    assert message == f"model.source: {source}: expected hf://owner/name@revision (a commit, tag or branch)."


@pytest.mark.parametrize("name", ["../..", "-owner/name", "owner/na--me", "owner/name.git", f"{'o' * 99}/name"])
def test_a_name_that_the_hub_cannot_have(tmp_path, name):
    message = error(f"hf://{name}@{COMMIT}", tmp_path / "out")
    assert message.startswith(f"model.source: hf://{name}@{COMMIT}: no such model, or a private one.")


def test_missing_folder(tmp_path):
    message = error(str(tmp_path / "none"), tmp_path / "out")
    assert message.startswith(f"model.source: {tmp_path / 'none'}: no such folder.")


def test_a_broken_checkpoint_is_refused_before_it_is_copied(tmp_path, source):
    (source / "model.safetensors").unlink()
    assert "pickled weights only (optimizer.pt, pytorch_model.bin)" in error(str(source), tmp_path / "out")


def test_a_folder_is_copied_without_code_and_pickles(tmp_path, source):
    out = tmp_path / "out"
    assert fetch_checkpoint(str(source), out, trust_remote_code=False) == source.as_posix()
    expected = {path.name for path in TINY.iterdir()} | {"LICENSE", "README.md"}
    assert {path.name for path in out.iterdir()} == expected
    assert sha256(out / "model.safetensors") == sha256(TINY / "model.safetensors")


def test_trust_remote_code_takes_the_code_but_no_pickle(tmp_path, source):
    out = tmp_path / "out"
    fetch_checkpoint(str(source), out, trust_remote_code=True)
    names = {path.name for path in out.iterdir()}
    assert "modeling_phi3.py" in names
    assert not names & {"pytorch_model.bin", "optimizer.pt", ".hidden.sh", "nested"}


def test_fetch_records_where_the_model_came_from(tmp_path, source):
    ran = fetch(tmp_path, "--source", str(source), "--watch", str(source))
    assert ran.returncode == 0, ran.stderr
    came_from, quality = (json.loads((tmp_path / name).read_text()) for name in ("inputs.json", "q.json"))
    assert came_from["source"] == source.as_posix()
    assert came_from["architecture"] == "Phi3ForCausalLM"
    assert came_from["files"]["model.safetensors"]["sha256"] == sha256(TINY / "model.safetensors")
    assert quality["weight_bytes"] == 2 * quality["parameters"]


def test_fetch_refuses_to_watch_another_folder_than_the_source(tmp_path):
    ran = fetch(tmp_path, "--source", "data/tiny-phi3", "--watch", "data/other")
    assert ran.returncode == 1
    assert "Error: model.watch: is data/other, but the source is the folder data/tiny-phi3" in ran.stderr
    assert not (tmp_path / "out").exists()


# --- the hub, over HTTP

NAME = "press/tiny"


@pytest.fixture
def hub():
    """The embedded base as a hub repository, with things in it that must not be taken."""
    files = {path.name: path.read_bytes() for path in sorted(TINY.iterdir())}
    files |= {"pytorch_model.bin": b"pickle", "modeling_phi3.py": b"import os", "onnx/model.onnx": b"onnx"}
    server = Hub(NAME, COMMIT, files)
    yield server
    server.close()


def fetch_from(hub: Hub, tmp_path: Path, source: str) -> subprocess.CompletedProcess[str]:
    return fetch(tmp_path, "--source", source, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0", HF_HUB_DISABLE_XET="1")


def test_the_hub_gives_a_pinned_checkpoint_and_nothing_that_can_run(tmp_path, hub):
    ran = fetch_from(hub, tmp_path, f"hf://{NAME}@{COMMIT}")
    assert ran.returncode == 0, ran.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in TINY.iterdir()}
    assert sha256(tmp_path / "out/model.safetensors") == sha256(TINY / "model.safetensors")
    assert json.loads((tmp_path / "inputs.json").read_text())["source"] == f"hf://{NAME}@{COMMIT}"
    asked = {path for _, path, _ in hub.requests}
    assert not [path for path in asked if path.endswith((".bin", ".py", ".onnx"))]
    assert "%" in ran.stderr, "a download shows progress"


def test_a_branch_is_refused_with_the_commit_to_write(tmp_path, hub):
    ran = fetch_from(hub, tmp_path, f"hf://{NAME}@main")
    assert ran.returncode == 1
    assert f"write hf://{NAME}@{COMMIT}" in ran.stderr
    assert hub.downloads("model.safetensors") == []


@pytest.mark.parametrize(
    ("refuse", "source", "expected"),
    [
        (None, f"hf://{NAME}@{COMMIT[::-1]}", "has no revision"),
        (None, f"hf://press/other@{COMMIT}", "no such model, or a private one"),
        ((403, "GatedRepo"), f"hf://{NAME}@{COMMIT}", "gated. Accept its terms"),
        ((401, "RepoNotFound"), f"hf://{NAME}@{COMMIT}", "set HF_TOKEN for a private one"),
        ((418, "Teapot"), f"hf://{NAME}@{COMMIT}", "the hub cannot be reached"),
    ],
)
def test_what_the_hub_refuses_is_explained(tmp_path, hub, refuse, source, expected):
    hub.refuse = refuse
    ran = fetch_from(hub, tmp_path, source)
    assert ran.returncode == 1
    assert expected in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "out").exists()


def test_only_pickles_on_the_hub(tmp_path, hub):
    del hub.files["model.safetensors"]
    ran = fetch_from(hub, tmp_path, f"hf://{NAME}@{COMMIT}")
    assert ran.returncode == 1
    assert "this revision has no safetensors" in ran.stderr


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_offline_is_explained(tmp_path, environment):
    ran = fetch(tmp_path, "--source", f"hf://{NAME}@{COMMIT}", **environment)
    assert ran.returncode == 1
    assert "the hub cannot be reached" in ran.stderr
    assert "HF_HUB_OFFLINE" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_broken_download_keeps_the_files_that_it_has(tmp_path, hub):
    hub.broken = {"tokenizer.json"}
    ran = fetch_from(hub, tmp_path, f"hf://{NAME}@{COMMIT}")
    assert ran.returncode == 1
    assert "rerun: files already fetched are kept" in ran.stderr
    assert not (tmp_path / "out").exists()
    hub.broken.clear()
    ran = fetch_from(hub, tmp_path, f"hf://{NAME}@{COMMIT}")
    assert ran.returncode == 0, ran.stderr
    assert len(hub.downloads("model.safetensors")) == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in TINY.iterdir()}


def test_a_dropped_connection_goes_on_in_the_middle_of_a_file(tmp_path, hub):
    hub.files["more.model"] = bytes(1 << 25)
    hub.break_after["more.model"] = 25_000_000  # huggingface_hub writes in pieces of 10 MB
    ran = fetch_from(hub, tmp_path, f"hf://{NAME}@{COMMIT}")
    assert ran.returncode == 0, ran.stderr
    assert hub.downloads("more.model") == [None, f"bytes={2 * 10 * (1 << 20)}-"]
    assert (tmp_path / "out/more.model").read_bytes() == hub.files["more.model"]


def test_a_half_download_of_one_model_is_not_taken_for_another(tmp_path, hub):
    scratch = tmp_path / ".out.partial"
    scratch.mkdir()
    (scratch / "extra.safetensors").write_bytes(b"of another model")
    (scratch / ".source").write_text(f"hf://press/other@{COMMIT}")
    assert fetch_from(hub, tmp_path, f"hf://{NAME}@{COMMIT}").returncode == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in TINY.iterdir()}
