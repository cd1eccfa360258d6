"""Nothing foreign runs: not the Python code that a checkpoint names, not the native code that a model folder names."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from olivepress.core.artifact import LIBRARY
from olivepress.core.errors import PressError
from olivepress.core.offline import hub_offline
from olivepress.core.outputs import sha256
from olivepress.core.remote_code import remove_remote_code, without_remote_code
from olivepress.fetch.sources import fetch_checkpoint
from olivepress.runtime.prompt import control_tokens
from olivepress.runtime.trust import check_library, read_genai_config

ROOT = Path(__file__).parents[1]
TINY = ROOT / "data/tiny-phi3"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ELSEWHERE = "press/code--evil.Evil"  # code in another repository than the model's


def edit(path: Path, change) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.fixture
def base(tmp_path) -> Path:
    """The embedded base, naming code that leaves a file behind when it is imported."""
    folder = tmp_path / "named"
    shutil.copytree(TINY, folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Evil: pass\n")
    for name, key in (("config.json", "AutoConfig"), ("tokenizer_config.json", "AutoTokenizer")):
        edit(folder / name, lambda value, key=key: value.update(auto_map={key: ELSEWHERE}))
    edit(folder / "generation_config.json", lambda value: value.update(deep=[{"auto_map": {"AutoModel": "evil.Evil"}}]))
    return folder


def names_code(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.json") if "auto_map" in path.read_text()}


# ---- a checkpoint's own code


def test_fetch_leaves_named_code_out_and_says_so(base, tmp_path, capsys):
    fetch_checkpoint(str(base), tmp_path / "out", trust_remote_code=False)
    assert names_code(tmp_path / "out") == set()
    said = capsys.readouterr().err
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        assert f"{name}: the Python code that it names" in said
    expected = json.loads((base / "config.json").read_text())
    del expected["auto_map"]
    assert json.loads((tmp_path / "out/config.json").read_text()) == expected


NAMING = {
    "config.json": {
        **{"trust_remote_code": True, "attn_implementation": "press/kernel", "_attn_implementation": "press/k@v1:f"},
        **{"experts_implementation": {"text_config": "press/kernel"}},
        **{"custom_pipelines": {"p": {"impl": "evil.Evil"}}, "text_config": {"auto_map": {"AutoConfig": ELSEWHERE}}},
    },
    "tokenizer_config.json": {
        **{"tokenizer_file": "/etc/passwd", "merges_file": "../x", "fast_tokenizer_files": ["tokenizer.json", "../y"]},
        "processor": [{"auto_map": {"AutoProcessor": [ELSEWHERE, None]}}],
    },
    "processor_config.json": {"auto_map": {"AutoProcessor": ELSEWHERE}},
    "preprocessor_config.json": {"auto_map": {"AutoImageProcessor": ELSEWHERE}},
    "generation_config.json": {"trust_remote_code": True, "custom_generate": "press/elsewhere"},
}
HARMLESS = {
    "config.json": {"attn_implementation": {"text_config": "eager"}, "_name_or_path": "press/other"},
    "tokenizer_config.json": {"vocab_file": "vocab.json", "name_or_path": "press/other"},
}


def test_every_field_that_names_code_or_files_elsewhere_is_left_out(tmp_path):
    for name, keys in NAMING.items():
        (tmp_path / name).write_text(json.dumps({**keys, **HARMLESS.get(name, {})}))
    lines = remove_remote_code(tmp_path)
    assert [line.partition(":")[0] for line in lines] == sorted(NAMING)
    for key in ("fast_tokenizer_files", "tokenizer_file", "merges_file", "auto_map"):
        assert key in lines[-1]
    left = {name: json.loads((tmp_path / name).read_text()) for name in NAMING}
    for name, value in left.items():
        expected = {"text_config": {}} if name == "config.json" else {}
        expected = {"processor": [{}]} if name == "tokenizer_config.json" else expected
        assert value == {**expected, **HARMLESS.get(name, {})}


def test_fetch_keeps_named_code_where_it_is_trusted(base, tmp_path):
    fetch_checkpoint(str(base), tmp_path / "out", trust_remote_code=True)
    assert names_code(tmp_path / "out") == {"config.json", "tokenizer_config.json", "generation_config.json"}
    assert (tmp_path / "out/evil.py").is_file()


def test_a_key_spelt_with_escapes_is_seen(base):
    text = (base / "config.json").read_text()
    (base / "config.json").write_text(text.replace('"auto_map"', '"auto\\u005fmap"'))
    remove_remote_code(base)
    assert "auto_map" not in json.loads((base / "config.json").read_text())


def test_a_folder_that_names_no_code_is_read_as_it_is(tmp_path):
    with without_remote_code(TINY) as folder:
        assert folder == TINY


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_that_one_reader_takes_and_another_does_not_is_refused(base, tmp_path, encoding):
    (base / "processor_config.json").write_text(json.dumps({"auto_map": {"AutoProcessor": ELSEWHERE}}), encoding)
    with pytest.raises(PressError, match=r"processor_config\.json: not valid JSON"):
        fetch_checkpoint(str(base), tmp_path / "out", trust_remote_code=False)


@pytest.mark.parametrize("text", ['{"eos_token": "<|end|>", "eos_token": "<|user|>"}', '{"model_max_length": NaN}'])
def test_json_that_readers_disagree_about_is_refused_in_every_file(base, tmp_path, text):
    (base / "tokenizer_config.json").write_text(text)
    with pytest.raises(PressError, match=r"tokenizer_config\.json: not valid JSON"):
        fetch_checkpoint(str(base), tmp_path / "out", trust_remote_code=False)


def test_json_nested_too_deeply_is_refused_by_name(base):
    (base / "deep.json").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(PressError, match=r"deep\.json: nested too deeply"):
        remove_remote_code(base)


def test_a_stage_asks_no_hub(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub_offline():
        assert constants.HF_HUB_OFFLINE
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert not constants.HF_HUB_OFFLINE
    assert "HF_HUB_OFFLINE" not in os.environ


def test_a_library_that_is_imported_offline_asks_the_hub_afterwards():
    """As a prepare that reads a tokenizer first would see it; alone, since a library is imported once."""
    code = (
        "from olivepress.core.offline import hub_offline\n"
        "with hub_offline():\n    import datasets\n    assert datasets.config.HF_HUB_OFFLINE\n"
        "from huggingface_hub import constants\n"
        "assert (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE) == (False, False)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


# ---- files that are not the folder's own


def test_a_link_out_of_the_folder_is_refused_by_name(base, tmp_path):
    (tmp_path / "secret").write_text("root's own")
    (base / "LICENSE").unlink()
    (base / "LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(PressError, match=r"LICENSE: a link to .*/secret, outside of the model's folder"):
        fetch_checkpoint(str(base), tmp_path / "out", trust_remote_code=False)
    assert not (tmp_path / "out").exists()


def test_a_link_within_the_folder_is_taken_as_the_file(base, tmp_path):
    (base / "LICENSE").rename(base / "TERMS")
    (base / "LICENSE").symlink_to("TERMS")
    fetch_checkpoint(str(base), tmp_path / "out", trust_remote_code=False)
    assert (tmp_path / "out/LICENSE").read_text() == (TINY / "LICENSE").read_text()


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["fifo", "folder"])
def test_what_is_no_file_is_refused_by_name(base, tmp_path, make):
    make(base / "z.json")
    with pytest.raises(PressError, match=r"z\.json: not a file"):
        fetch_checkpoint(str(base), tmp_path / "out", trust_remote_code=False)


# ---- a model folder's native code


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "release/model"
    folder.mkdir(parents=True)
    decoder = {"session_options": {}, "filename": "model.onnx"}
    config = {"model": {"context_length": 8, "vocab_size": 9, "pad_token_id": 0, "decoder": decoder}}
    (folder / "genai_config.json").write_text(json.dumps(config))
    (folder / "model.onnx").write_bytes(b"")
    return folder


def name_library(folder: Path, key: str, text: str) -> None:
    edit(
        folder / "genai_config.json",
        lambda value: value["model"]["decoder"]["session_options"].update({key: text}),
    )


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("custom_ops_library", "evil.so"),
        ("custom_ops_library", "evil"),
        ("custom_ops_library", f"../{LIBRARY}"),
        ("custom_ops_library", f"/tmp/{LIBRARY}"),
        ("backend_path", "QnnHtp.dll"),
        ("anything", "libevil.so.1.2"),
        ("anything", "EVIL.DYLIB "),
    ],
)
def test_foreign_native_code_is_refused(model, key, text):
    name_library(model, key, text)
    with pytest.raises(PressError, match=f"{key} names the native code"):
        read_genai_config(model)


def test_a_model_file_outside_of_the_folder_is_refused(model):
    edit(model / "genai_config.json", lambda value: value["model"]["decoder"].update(filename="../model.onnx"))
    with pytest.raises(PressError, match="is not in this folder"):
        read_genai_config(model)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": {"context_length": "8"}}', "\xff", "[" * 100_000])
def test_a_broken_configuration_is_refused_by_name(model, text):
    (model / "genai_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(PressError, match=r"genai_config\.json: not a configuration"):
        read_genai_config(model)


def test_a_library_of_this_name_needs_somebody_who_vouches_for_it(model):
    name_library(model, "custom_ops_library", LIBRARY)
    (model / LIBRARY).write_bytes(b"foreign")
    with pytest.raises(PressError, match="native code that nobody vouches for"):
        read_genai_config(model)
    manifest = model.parent / "manifest.json"
    manifest.write_text("garbage")
    with pytest.raises(PressError, match="native code that nobody vouches for"):
        check_library(model)
    digest = hashlib.sha256(b"foreign").hexdigest()
    manifest.write_text(json.dumps({"files": {f"model/{LIBRARY}": {"bytes": 7, "sha256": digest}}}))
    read_genai_config(model)
    (model / LIBRARY).write_bytes(b"another")
    with pytest.raises(PressError, match="native code that nobody vouches for"):
        read_genai_config(model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model: model.update(decoder=5), "model.decoder: expected an object"),
        (lambda model: model.pop("decoder"), "model.decoder: expected an object"),
        (lambda model: model["decoder"].update(session_options=[]), "session_options: expected an object"),
        (lambda model: model["decoder"].update(session_options={"provider_options": {}}), "expected a list of objects"),
        (lambda model: model["decoder"].update(session_options={"provider_options": ["cuda"]}), "a list of objects"),
        (
            lambda model: model["decoder"].update(session_options={"provider_options": [{"cuda": 5}]}),
            "a list of objects",
        ),
        (
            lambda model: model["decoder"].update(session_options={"provider_options": [{"VitisAI": {}}]}),
            "it asks for the execution provider 'VitisAI', expected cpu, cuda, webgpu, dml or nvtensorrtrtx",
        ),
        (lambda model: model.pop("pad_token_id"), "model.pad_token_id: found 'None', expected a whole number"),
        (lambda model: model.pop("vocab_size"), "model.vocab_size: found 'None', expected a whole number from 1"),
        (lambda model: model.update(eos_token_id=[]), "model.eos_token_id: found '[]', expected the id of a token"),
        (lambda model: model.update(eos_token_id=[4, 9]), "model.eos_token_id: found '[4, 9]', expected the id"),
        (lambda model: model.update(eos_token_id=4.5), "model.eos_token_id: found '4.5', expected the id"),
        (lambda model: model.update(pad_token_id=True), "model.pad_token_id: found 'True', expected"),
        (
            lambda model: model.update(context_length=0),
            "model.context_length: found '0', expected a whole number from 1",
        ),
        (lambda model: model.update(context_length=10**30), "model.context_length: found '1000"),
        (lambda model: model["decoder"].update(num_key_value_heads=10**6), "found '1000000', expected a whole number"),
        (lambda model: model["decoder"].update(head_size=-1), "model.decoder.head_size: found '-1'"),
        (
            lambda model: model["decoder"].update(session_options={"intra_op_num_threads": 10**6}),
            "model.decoder.session_options.intra_op_num_threads: found '1000000', expected a whole number from 0",
        ),
    ],
)
def test_a_configuration_of_another_form_is_refused(model, change, words):
    edit(model / "genai_config.json", lambda value: change(value["model"]))
    with pytest.raises(PressError) as caught:
        read_genai_config(model)
    assert f"{model / 'genai_config.json'}: not a configuration of ONNX Runtime GenAI: " in caught.value.message
    assert words in caught.value.message


@pytest.mark.parametrize("key", ["num_beams", "num_return_sequences", "batch_size"])
def test_more_than_one_answer_at_a_time_is_refused(model, key):
    edit(model / "genai_config.json", lambda value: value.update(search={key: 4}))
    with pytest.raises(PressError, match=f"search.{key}: found '4', expected 1. Export it again"):
        read_genai_config(model)


def test_a_key_twice_hides_nothing(model):
    """GenAI's reader merges two objects of the same key, Python's takes the last."""
    evil = '{"session_options": {"custom_ops_library": "evil.so"}}'
    text = (model / "genai_config.json").read_text().replace('"decoder":', f'"decoder": {evil}, "decoder":')
    (model / "genai_config.json").write_text(text)
    with pytest.raises(PressError, match="field 'decoder' is there twice"):
        read_genai_config(model)


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("filename", "model.onnx.gone", "which is not in this folder"),
        ("filename", "", "is '', which is not in this folder"),
        ("filename", "..", "which is not in this folder"),
        ("filename", "a\\b", "which is not in this folder"),
        ("filename", "model.onnx\0", "which is not in this folder"),
        ("filename", "9" * 5000, "which is not in this folder"),
        ("config_filename", "/etc/passwd", "which is not in this folder"),
        ("ep_context_file_path", "../x", "which is not in this folder"),
        ("session.model_external_initializers_file_folder_path", "/", "which is not in this folder"),
        ("trt_engine_cache_dir", "C:x", "which is not in this folder"),
        ("enable_profiling", "here", "a file would be written wherever it is run"),
    ],
)
def test_files_that_it_reads_or_writes_are_in_the_folder(model, key, text, words):
    name_library(model, key, text)
    with pytest.raises(PressError, match=words):
        read_genai_config(model)


@pytest.mark.parametrize(
    ("provider", "key"),
    [
        ("cuda", "user_compute_stream"),
        ("cuda", "gpu_external_alloc"),
        ("CUDA", "GPU_external_empty_cache"),
        ("WebGPU", "dawnProcTable"),
        ("webgpu", "webgpuDevice"),
        ("NvTensorRTRTX", "onnx_bytestream"),
        ("NvTensorRTRTX", "user_aux_stream_array"),
    ],
)
def test_an_address_in_memory_is_handed_to_no_provider(model, key, provider):
    edit(
        model / "genai_config.json",
        lambda value: value["model"]["decoder"]["session_options"].update(provider_options=[{provider: {key: "4096"}}]),
    )
    with pytest.raises(PressError, match=f"{key} is '4096', an address"):
        read_genai_config(model)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"added_tokens": 5}', '{"added_tokens": [5]}', "[" * 100_000], ids=range(6)
)
def test_a_broken_tokenizer_is_refused_by_name(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(PressError, match=r"tokenizer\.json: is no tokenizer"):
        control_tokens(tmp_path)


@pytest.mark.parametrize("command", [["chat", "--target", "foreign"], ["-c"]], ids=["chat", "load"])
def test_chat_and_load_refuse_it_before_anything_is_loaded(model, tmp_path, command):
    name_library(model, "custom_ops_library", "evil.so")
    release = tmp_path / "models/onnx/foreign"
    release.parent.mkdir(parents=True)
    shutil.copytree(model.parent, release)
    params = {"text": {"template": "chat"}}
    (tmp_path / "params.yaml").write_text(json.dumps({"text": {"template": "chat"}}))
    files = {
        f"model/{path.name}": {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in (release / "model").iterdir()
    }
    texts = dict.fromkeys(("name", "version", "target", "licence"), "foreign")
    manifest = {**texts, "adapters": [], "params": params, "files": files}
    (release / "manifest.json").write_text(json.dumps(manifest))
    if command == ["-c"]:
        call = f"from olivepress.runtime.release import load; load({str(release)!r})"
        arguments = [sys.executable, "-c", call]
    else:
        arguments = [sys.executable, "-m", "olivepress", *command]
    done = subprocess.run(
        arguments,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input="hello\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "names the native code 'evil.so', which is not this project's: not loaded." in done.stderr
