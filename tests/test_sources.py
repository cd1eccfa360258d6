"""Where a base model may come from, and what of it is taken. No network."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from olivepress.errors import PressError
from olivepress.outputs import sha256
from olivepress.sources import bring

ROOT = Path(__file__).parents[1]
TINY = ROOT / "data/tiny-phi3"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def error(source: str, folder: Path) -> str:
    with pytest.raises(PressError) as caught:
        bring(source, folder, trust_remote_code=False)
    assert not folder.exists()
    return caught.value.format_message()


def fetch(tmp_path: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "stages/fetch.py", "--out", tmp_path / "out", "--quality", tmp_path / "q.json", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf"), **environment},
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
    assert "a folder, hf://owner/name@revision or azureml://" in message


def test_azureml_is_not_there_yet(tmp_path):
    source = "azureml://registries/azureml/models/Phi-3.5-mini-instruct/versions/6"
    message = error(source, tmp_path / "out")
    assert message.startswith(f"model.source: {source}: the Azure ML catalog is not supported yet.")
    assert "hf://owner/name@commit" in message


@pytest.mark.parametrize(
    "source", ["hf://", "hf://name@main", "hf://owner/name", "hf://owner/name@", f"hf://a/b/c@{COMMIT}", "hf://a b/c@d"]
)
def test_malformed_hub_name(tmp_path, source):
    message = error(source, tmp_path / "out")
    assert message == f"model.source: {source}: expected hf://owner/name@revision (a commit, tag or branch)."


def test_missing_folder(tmp_path):
    message = error(str(tmp_path / "none"), tmp_path / "out")
    assert message.startswith(f"model.source: {tmp_path / 'none'}: no such folder.")


def test_a_broken_checkpoint_is_refused_before_it_is_copied(tmp_path, source):
    (source / "model.safetensors").unlink()
    assert "pickled weights only (optimizer.pt, pytorch_model.bin)" in error(str(source), tmp_path / "out")


def test_a_folder_is_copied_without_code_and_pickles(tmp_path, source):
    out = tmp_path / "out"
    assert bring(str(source), out, trust_remote_code=False) == source.as_posix()
    expected = {path.name for path in TINY.iterdir()} | {"LICENSE", "README.md"}
    assert {path.name for path in out.iterdir()} == expected
    assert sha256(out / "model.safetensors") == sha256(TINY / "model.safetensors")


def test_trust_remote_code_takes_the_code_but_no_pickle(tmp_path, source):
    out = tmp_path / "out"
    bring(str(source), out, trust_remote_code=True)
    names = {path.name for path in out.iterdir()}
    assert "modeling_phi3.py" in names
    assert not names & {"pytorch_model.bin", "optimizer.pt", ".hidden.sh", "nested"}


def test_fetch_records_where_the_model_came_from(tmp_path, source):
    ran = fetch(tmp_path, "--source", str(source), "--watch", str(source))
    assert ran.returncode == 0, ran.stderr
    quality = json.loads((tmp_path / "q.json").read_text())
    assert quality["source"] == source.as_posix()
    assert quality["architecture"] == "Phi3ForCausalLM"
    assert quality["weight_bytes"] == 2 * quality["parameters"]
    assert quality["files"]["model.safetensors"]["sha256"] == sha256(TINY / "model.safetensors")


def test_fetch_refuses_to_watch_another_folder_than_the_source(tmp_path):
    ran = fetch(tmp_path, "--source", "data/tiny-phi3", "--watch", "data/other")
    assert ran.returncode == 1
    assert "Error: model.watch: is data/other, but the source is the folder data/tiny-phi3" in ran.stderr
    assert not (tmp_path / "out").exists()
