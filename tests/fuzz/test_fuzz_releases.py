"""What a release consists of, as somebody else may have changed it: read, or refused by file."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import spoilt

from olivepress.release.provenance import read_provenance, write_provenance
from olivepress.runtime.integrity import check_release, read_manifest
from olivepress.runtime.trust import read_genai_config

SHA = "0" * 64
EMPTY = hashlib.sha256(b"").hexdigest()
FILES = (
    "model/model.onnx",
    "model/genai_config.json",
    *(f"adapters/{name}.onnx_adapter" for name in ("travel", "cooking")),
)
MANIFEST = {
    "name": "ft-for-travel", "version": "0.1.0", "target": "cpu-int4", "adapters": ["travel", "cooking"],
    "licence": "MIT", "base": {"source": "data/tiny-phi3"}, "quality": {"quantize": {"bits": 4}},
    "files": {name: {"bytes": 0, "sha256": EMPTY} for name in FILES},
    "inputs_sha256": {"base/config.json": SHA}, "params": {"text": {"template": "chat"}, "prepare": {"held_out": 0.1}},
}  # fmt: skip
GENAI = {
    "model": {
        "context_length": 4096, "vocab_size": 320, "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 2,
        "type": "phi3",
        "decoder": {
            "filename": "model.onnx", "head_size": 16, "hidden_size": 64, "num_attention_heads": 4,
            "session_options": {"log_id": "og", "provider_options": [{"cuda": {"enable_cuda_graph": "1"}}]},
            "inputs": {"input_ids": "input_ids", "past_key_names": "past.%d.key"},
            "outputs": {"logits": "logits"},
        },
    },
    "search": {"max_length": 4096, "temperature": 1.0, "do_sample": False},
}  # fmt: skip


@given(content=spoilt(st.just(MANIFEST)))
def test_manifests_are_read_or_refused(content, place, answered):
    folder = place / "release"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "manifest.json").write_bytes(content)
    found = answered(read_manifest, folder / "manifest.json")
    checked = answered(check_release, folder, "full")
    assert not isinstance(checked, dict) or checked == found


@given(content=spoilt(st.just(GENAI)))
def test_configurations_of_the_runtime_are_read_or_refused(content, place, answered):
    (place / "genai_config.json").write_bytes(content)
    answered(read_genai_config, place)


@pytest.fixture(scope="module")
def provenance() -> dict:
    text = write_provenance(
        {"model.onnx": SHA}, parameters={"name": "x", "version": "1"}, commands={"fetch": "python -m stages.fetch"},
        commit="0" * 40, inputs={"params.yaml": SHA}, byproducts={"sbom.json": SHA},
    )  # fmt: skip
    return json.loads(text)


@given(data=st.data())
def test_provenance_is_read_or_refused(data, provenance, answered):
    content = data.draw(spoilt(st.just(provenance)))
    answered(lambda: read_provenance(content.decode("utf-8", "replace")))
